// What nsfwjs itself says of the pictures that `python -m tests.domains.chain.judged FOLDER`
// wrote. In a folder with `npm install nsfwjs@4.3.0 @tensorflow/tfjs@4.22.0 buffer`:
//   node record.mjs FOLDER > nsfwjs.json
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";

// Found where it is run, not where this file is.
const require = createRequire(join(process.cwd(), "here.cjs"));
const tf = require("@tensorflow/tfjs");
const nsfwjs = require("nsfwjs");

const folder = process.argv[2];
const sizes = JSON.parse(readFileSync(join(folder, "sizes.json"), "utf8"));
console.info = () => {};
await tf.setBackend("cpu");
const model = await nsfwjs.load("MobileNetV2");
const told = {};
for (const [name, [height, width]] of Object.entries(sizes)) {
  const pixels = new Uint8Array(readFileSync(join(folder, `${name}.rgb`)));
  const scores = model.infer(tf.tensor3d(pixels, [height, width, 3], "int32"));
  told[name] = Array.from(await scores.data());
}
console.log(JSON.stringify(told, null, 1));
