"""`deviceops generate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperOption

from server.cli.choices import FORMATS, PRECISIONS, PRIORITIES, SEAMLESS
from server.cli.commands.batch_options import Each, Items, Runs, Share
from server.cli.commands.options import AnyOf, AsJson, Devices, connected
from server.cli.commands.sampler_options import (
    Algorithm,
    Churn,
    Eta,
    Order,
    Scheduler,
    Spacing,
    TimestepSpacing,
    ZeroSnr,
)
from server.cli.commands.start_options import (
    CropMargin,
    Fill,
    Fit,
    Image,
    ImagePrompt,
    Inpaint,
    InvertMask,
    KeepUnmasked,
    Margins,
    Mask,
    MaskBlur,
    Strength,
)
from server.cli.reporting import leave, reported


class GenerateCommand(TyperCommand):
    """Reads the schedulers from the contract when its help is shown, and not before."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the options, every scheduler named."""
        from deviceops.v1 import sampling_pb2
        from server.cli.choices import SCHEDULERS, offered

        names = ", ".join(offered(sampling_pb2.Scheduler, "SCHEDULER_", SCHEDULERS))
        for option in self.params:
            if option.name == "scheduler" and isinstance(option, TyperOption):
                option.help = f"{names}; or the contract's name."
        super().format_options(ctx, formatter)


@reported
def generate(
    context: typer.Context,
    prompt: Annotated[
        str | None,
        typer.Argument(metavar="[PROMPT]", help="What to draw; may be left out with --like."),
    ] = None,
    like: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Draw as this picture was drawn, by the settings in its file; other options"
            " replace them.",
        ),
    ] = None,
    negative: Annotated[
        str | None, typer.Option("--negative", "-n", metavar="TEXT", help="What to avoid.")
    ] = None,
    weighted: Annotated[
        bool,
        typer.Option(
            "--weighted",
            help="Read (word:1.3), [word] and BREAK in prompts, and prompts of any length.",
        ),
    ] = False,
    model: Annotated[
        str | None, typer.Option("--model", "-m", metavar="ID", help="Model id.")
    ] = None,
    lora: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ID[:X[:Y]]",
            help="A LoRA, its weight and that on text encoders, -2 to 2; repeatable.",
        ),
    ] = None,
    vae: Annotated[
        str | None, typer.Option(metavar="ID", help="A VAE instead of the model's own.")
    ] = None,
    refiner: Annotated[
        str | None, typer.Option(metavar="ID", help="A second model for the last steps.")
    ] = None,
    refiner_switch: Annotated[
        float | None,
        typer.Option(metavar="X", help="Share of the steps before the refiner's, 0 to 1."),
    ] = None,
    refiner_mode: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="handover, or image-to-image: it starts from the finished picture.",
        ),
    ] = None,
    embedding: Annotated[
        list[str] | None,
        typer.Option(metavar="ID", help="A textual inversion for the prompts; repeatable."),
    ] = None,
    device: Devices = None,
    any_of: AnyOf = "",
    image: Image = None,
    inpaint: Inpaint = None,
    mask: Mask = None,
    invert_mask: InvertMask = False,
    mask_blur: MaskBlur = None,
    fill: Fill = None,
    margins: Margins = None,
    crop_margin: CropMargin = None,
    keep_unmasked: KeepUnmasked = False,
    strength: Strength = None,
    fit: Fit = None,
    control: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ID[=TYPE]:PICTURE[:SCALE[:START[:END]]]",
            help="A ControlNet, its picture, its strength, and between which shares of the"
            " steps it works; of a union also what it takes the picture for: pose, depth,"
            " soft-edge, edge, normal, segment, tile, repaint. Repeatable.",
        ),
    ] = None,
    preprocess: Annotated[
        list[str] | None,
        typer.Option(
            metavar="HOW",
            help="What makes the control picture, as of preview-control: canny:100:200,"
            " soft-edge, ...; once for all, or for each --control.",
        ),
    ] = None,
    image_prompt: ImagePrompt = None,
    width: Annotated[
        int | None, typer.Option(metavar="N", help="Pixels; multiples of 8.")
    ] = None,
    height: Annotated[
        int | None, typer.Option(metavar="N", help="Pixels; multiples of 8.")
    ] = None,
    steps: Annotated[int | None, typer.Option(metavar="N", help="Denoising steps.")] = None,
    guidance: Annotated[
        float | None,
        typer.Option(
            metavar="X",
            help="How strongly the prompts pull; up to 1 the negative one is not read.",
        ),
    ] = None,
    guidance_rescale: Annotated[
        float | None, typer.Option(metavar="X", help="Against over-exposure, 0 to 1.")
    ] = None,
    seed: Annotated[
        int | None, typer.Option(metavar="N", help="Seed of the first picture; random without.")
    ] = None,
    seeds: Annotated[
        str, typer.Option(metavar="N,N,...", help="A seed for each picture.")
    ] = "",
    count: Annotated[int | None, typer.Option(metavar="N", help="Pictures to draw.")] = None,
    scheduler: Scheduler = None,
    spacing: Spacing = None,
    timestep_spacing: TimestepSpacing = None,
    zero_snr: ZeroSnr = None,
    algorithm: Algorithm = None,
    order: Order = None,
    churn: Churn = None,
    eta: Eta = None,
    variation_seed: Annotated[
        int | None,
        typer.Option(metavar="N", help="Another seed, to whose noise each picture's goes."),
    ] = None,
    variation_strength: Annotated[
        float | None,
        typer.Option(metavar="X", help="How far it goes: 0 not at all, 1 all the way."),
    ] = None,
    seamless: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help=f"Edges continue at the opposite ones: {', '.join(SEAMLESS)}."
        ),
    ] = None,
    second_pass: Annotated[
        float | None,
        typer.Option(
            metavar="X",
            help="Draw again, so many times as large; more by --set second_pass.strength"
            " and the like.",
        ),
    ] = None,
    upscaler: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="What enlarges for --second-pass: latent, pixels, model for the best "
            "upscaler installed, or an upscaler's id.",
        ),
    ] = None,
    clip_skip: Annotated[
        int | None,
        typer.Option(metavar="N", help="Text encoder layers left out."),
    ] = None,
    vae_tiling: Annotated[
        bool | None,
        typer.Option(help="Decode in tiles, or never; the server decides by default."),
    ] = None,
    precision: Annotated[
        str | None, typer.Option(metavar="NAME", help=" or ".join(PRECISIONS))
    ] = None,
    picture_format: Annotated[
        str | None,
        typer.Option(
            "--format",
            metavar="NAME",
            help=f"{', '.join(FORMATS)}; by default as --output ends.",
        ),
    ] = None,
    quality: Annotated[
        int | None,
        typer.Option(metavar="N", help="Of JPEG and lossy WebP, 1 to 100."),
    ] = None,
    preview_every: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="A preview after so many steps; by default 2 where the terminal draws"
            " them, else 0 (none).",
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="PATH",
            help="Folder, or file ending .png, .jpg, .webp; by default the folder out.",
        ),
    ] = None,
    no_data: Annotated[
        bool,
        typer.Option(
            "--no-data", help="Leave the pictures with the server and print their artifact ids."
        ),
    ] = False,
    request_id: Annotated[
        str | None,
        typer.Option(
            metavar="UUID", help="UUID; the same one never draws twice. By default a fresh one."
        ),
    ] = None,
    queue_timeout: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="Longest wait for a device: 90, 30s, 5m, 2h."),
    ] = None,
    run_timeout: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="Longest run of one attempt, pauses not counted."),
    ] = None,
    priority: Annotated[
        str | None, typer.Option(metavar="NAME", help=", ".join(PRIORITIES))
    ] = None,
    detach: Annotated[
        bool,
        typer.Option(
            "--detach",
            help="Keep the work going when the connection is lost, and watch it again."
            " Ctrl-C still cancels it.",
        ),
    ] = False,
    tag: Annotated[
        list[str] | None,
        typer.Option(metavar="TAG", help="For finding the session; repeatable."),
    ] = None,
    finish: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME[:FIELD=VALUE,...]",
            help="A step on each picture once it is drawn, as of process; repeatable.",
        ),
    ] = None,
    assignment: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="FIELD=VALUE",
            help="Any field of GenerationSettings by its path, after all other options:"
            " guidance.rescale=0.7, loras.0.weight=-1; repeatable.",
        ),
    ] = None,
    each: Each = None,
    runs: Runs = None,
    items: Items = None,
    share: Share = False,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="Draw nothing: tell where it would run, every setting, how long it takes and"
            " how much memory, or why it would be refused.",
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Draw pictures and save them; an existing file is never overwritten.

    Paths of saved pictures go to stdout, progress and where it runs to stderr. Ctrl-C
    cancels the work. With --each, --runs or --items many different pictures are drawn in one
    go, and one that fails does not keep the others.
    """
    from server.cli import batch, generation
    from server.cli import dry_run as dry
    from server.cli.batch_request import BatchOptions
    from server.cli.choices import UnusableOptions
    from server.cli.control import ControlOptions
    from server.cli.likeness import likeness
    from server.cli.request import GenerationOptions, parse_seeds
    from server.cli.sampler import SamplerOptions
    from server.cli.start import StartOptions

    options = GenerationOptions(
        prompt=prompt,
        negative=negative,
        weighted=weighted,
        model=model,
        vae=vae,
        refiner=refiner,
        refiner_switch=refiner_switch,
        refiner_mode=refiner_mode,
        devices=tuple(device or ()),
        kinds=any_of,
        width=width,
        height=height,
        steps=steps,
        guidance=guidance,
        guidance_rescale=guidance_rescale,
        seed=seed,
        seeds=parse_seeds(seeds),
        count=count,
        sampler=SamplerOptions(
            scheduler, spacing, timestep_spacing, zero_snr, algorithm, order, churn, eta
        ),
        clip_skip=clip_skip,
        precision=precision,
        vae_tiling=vae_tiling,
        format=picture_format,
        quality=quality,
        preview_every=preview_every,
        request_id=request_id,
        queue_timeout=queue_timeout,
        run_timeout=run_timeout,
        priority=priority,
        detach=detach,
        no_data=no_data,
        tags=tuple(tag or ()),
        loras=tuple(lora or ()),
        embeddings=tuple(embedding or ()),
        variation_seed=variation_seed,
        variation_strength=variation_strength,
        seamless=seamless,
        second_pass=second_pass,
        upscaler=upscaler,
        control=ControlOptions(tuple(control or ()), tuple(preprocess or ())),
        image_prompts=tuple(image_prompt or ()),
        start=StartOptions(
            image=image,
            inpaint=inpaint,
            strength=strength,
            fit=fit,
            mask=mask,
            invert_mask=invert_mask,
            mask_blur=mask_blur,
            fill=fill,
            margins=margins,
            crop_margin=crop_margin,
            keep_unmasked=keep_unmasked,
        ),
        finish=tuple(finish or ()),
        assignments=tuple(assignment or ()),
        like=None if like is None else likeness(like),
    )
    several = BatchOptions(tuple(each or ()), runs, items, share)
    if several.asked():
        if dry_run:
            raise UnusableOptions(
                "--dry-run tells of one generation: leave --each, --runs and --items out"
            )
        with connected(context) as client:
            leave(batch.run(client, options, several, output, as_json=as_json))
        return
    with connected(context) as client:
        run = dry.run if dry_run else generation.run
        leave(run(client, options, output, as_json=as_json))
