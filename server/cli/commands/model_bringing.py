"""`deviceops models import` and `pull`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from server.cli.commands.options import AsJson, connected
from server.cli.reporting import leave, reported

Name = Annotated[
    str, typer.Option("--name", metavar="ID", help="Id it shall have; by default as its name.")
]


def add_to(app: typer.Typer) -> None:
    """Make these commands of `deviceops models`."""
    app.command("import")(import_model)
    app.command("pull")(pull)


@reported
def import_model(
    context: typer.Context,
    path: Annotated[Path, typer.Argument(help="A model file, or a folder with a model.")],
    name: Name = "",
    as_json: AsJson = False,
) -> None:
    """Bring a model from this machine into the server's model folder.

    Its files are sent, checked, and appear at once. What is there already is not sent.
    """
    from server.cli.model_files import id_for
    from server.cli.model_import import bring, check_free, files_at

    files = files_at(path)
    model_id = name or id_for(path.stem if path.is_file() else path.resolve().name)
    with connected(context) as client:
        check_free(client, model_id)
        leave(bring(client, model_id, files, as_json=as_json))


@reported
def pull(
    context: typer.Context,
    repository: Annotated[str, typer.Argument(metavar="REPOSITORY", help="organisation/name")],
    name: Name = "",
    file: Annotated[
        str | None, typer.Option(metavar="PATH", help="Only this file of the repository.")
    ] = None,
    revision: Annotated[str | None, typer.Option(help="A branch, tag or commit.")] = None,
    allow_pickles: Annotated[
        bool, typer.Option("--allow-pickles", help="Take .ckpt, .pt, .pth, .bin where named.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Fetch a model from Hugging Face to this machine and bring it to the server.

    Only what the model needs is fetched; a download that broke off goes on. HF_ENDPOINT names
    another hub, HF_TOKEN a token, HF_HOME where it is kept meanwhile.
    """
    from server.cli.hub import Repository
    from server.cli.model_files import id_for
    from server.cli.model_import import bring, check_free
    from server.cli.wording import count, printable, size

    found = Repository(repository, revision)
    files = found.choose(file, pickles=allow_pickles)
    total = size(sum(one.size_bytes for one in files))
    shown = f"{printable(repository)} at {found.commit[:8]}: {count(len(files))} files, {total}"
    typer.echo(shown, err=True)
    model_id = name or id_for(Path(file).stem if file else repository.rpartition("/")[2])
    with connected(context) as client:
        check_free(client, model_id)
        here = found.fetch(files)
        if file is not None:
            here = {Path(file).name: here[file]}
        code = bring(client, model_id, here, as_json=as_json)
    if not code:
        found.discard()
    leave(code)
