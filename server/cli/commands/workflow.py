"""`deviceops workflow`: list, show, validate, create, update, delete, run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from server.cli.commands.options import AsJson, connected
from server.cli.listing import ListingGroup
from server.cli.reporting import leave, reported

if TYPE_CHECKING:
    from deviceops.v1 import workflow_pb2

app = typer.Typer(cls=ListingGroup, help="List, check, store and run graphs of steps.")

Name = Annotated[str, typer.Argument(metavar="NAME")]
NameOrFile = Annotated[
    str, typer.Argument(metavar="NAME|FILE", help="A stored workflow, .json or .textproto.")
]
File = Annotated[Path, typer.Argument(metavar="FILE", help=".json or .textproto")]
Sets = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NAME=VALUE", help="A parameter; repeatable."),
]
Images = Annotated[
    list[str] | None,
    typer.Option(
        "--image",
        metavar="NAME=PICTURE",
        help="A parameter that takes pictures: a file, an artifact id, or SESSION#N;"
        " repeatable, also for one parameter.",
    ),
]
Expected = Annotated[
    int,
    typer.Option("--version", metavar="N", help="The version it is changed from."),
]


@app.callback(invoke_without_command=True)
@reported
def workflows(
    context: typer.Context,
    owner: Annotated[str, typer.Option(metavar="NAME", help="Only this client's.")] = "",
    as_json: AsJson = False,
) -> None:
    """List workflows by name: those that come with the server, and stored ones."""
    if context.invoked_subcommand is not None:
        return
    from deviceops.v1 import workflow_pb2
    from server.cli.output import table
    from server.cli.views import write_message

    found = workflow_pb2.ListWorkflowsResponse()
    request = workflow_pb2.ListWorkflowsRequest(owner=owner)
    with connected(context) as client:
        for page in client.pages(client.processing.ListWorkflows, request):
            found.workflows.extend(page.workflows)
    if as_json:
        write_message(found)
        return
    table(
        ("workflow", "version", "owner", "parameters", "about"),
        (
            (
                one.workflow_id,
                str(one.version),
                "comes with the server" if one.built_in else one.owner,
                ", ".join(parameter.name for parameter in one.parameters),
                one.description,
            )
            for one in found.workflows
        ),
    )


@app.command("show")
@reported
def show(
    context: typer.Context,
    name: Name,
    as_text: Annotated[
        bool, typer.Option("--textproto", help="As a file that can be stored again.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show a workflow: what it takes and what its steps do."""
    from google.protobuf import text_format

    from deviceops.v1 import workflow_pb2
    from server.cli.views import write_message
    from server.cli.workflow_files import stored_form
    from server.cli.workflow_rows import tell

    request = workflow_pb2.GetWorkflowRequest(workflow_id=name)
    with connected(context) as client:
        found = client.ask(client.processing.GetWorkflow, request).workflow
    if as_json:
        write_message(found)
    elif as_text:
        typer.echo(text_format.MessageToString(stored_form(found)), nl=False)
    else:
        tell(found)


@app.command("validate")
@reported
def validate(
    context: typer.Context,
    name: NameOrFile,
    values: Sets = None,
    images: Images = None,
    as_json: AsJson = False,
) -> None:
    """Check a workflow without running it; with --set and --image also what it is given."""
    from deviceops.v1 import workflow_pb2
    from server.cli.exits import Exit
    from server.cli.views import write_message
    from server.cli.workflow_rows import tell_verdict
    from server.cli.workflow_run import RunOptions, run_request

    with connected(context) as client:
        options = RunOptions(tuple(values or ()), tuple(images or ()))
        run = run_request(client, name, options)
        request = workflow_pb2.ValidateWorkflowRequest(
            arguments=run.arguments, check_arguments=bool(run.arguments)
        )
        if run.HasField("workflow"):
            request.workflow.CopyFrom(run.workflow)
        else:
            request.workflow_id = run.workflow_id
        verdict = client.ask(client.processing.ValidateWorkflow, request)
    if as_json:
        write_message(verdict)
    else:
        tell_verdict(verdict)
    leave(Exit.OK if verdict.valid else Exit.BAD_INPUT)


@app.command("create")
@reported
def create(context: typer.Context, file: File, as_json: AsJson = False) -> None:
    """Store the workflow of a file under its workflow_id."""
    from deviceops.v1 import workflow_pb2
    from server.cli.workflow_files import read_workflow

    request = workflow_pb2.CreateWorkflowRequest(workflow=read_workflow(file))
    with connected(context) as client:
        stored = client.ask(client.processing.CreateWorkflow, request).workflow
    _told(stored, as_json=as_json)


@app.command("update")
@reported
def update(
    context: typer.Context, file: File, version: Expected = 0, as_json: AsJson = False
) -> None:
    """Store the workflow of a file in the place of the one of that name."""
    from deviceops.v1 import workflow_pb2
    from server.cli.workflow_files import read_workflow

    workflow = read_workflow(file)
    with connected(context) as client:
        if not version:
            asked = workflow_pb2.GetWorkflowRequest(
                workflow_id=workflow.workflow_id, view=workflow_pb2.WORKFLOW_VIEW_BASIC
            )
            version = client.ask(client.processing.GetWorkflow, asked).workflow.version
        request = workflow_pb2.UpdateWorkflowRequest(
            workflow=workflow, expected_version=version
        )
        stored = client.ask(client.processing.UpdateWorkflow, request).workflow
    _told(stored, as_json=as_json)


@app.command("delete")
@reported
def delete(context: typer.Context, name: Name, version: Expected = 0) -> None:
    """Delete a stored workflow; runs that have begun keep theirs."""
    from deviceops.v1 import workflow_pb2

    request = workflow_pb2.DeleteWorkflowRequest(workflow_id=name, expected_version=version)
    with connected(context) as client:
        client.ask(client.processing.DeleteWorkflow, request)
    typer.echo(f"Deleted {name}.")


@app.command("run")
@reported
def run(
    context: typer.Context,
    name: NameOrFile,
    values: Sets = None,
    images: Images = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="PATH", help="Folder, or file; by default out."),
    ] = None,
    device: Annotated[
        str, typer.Option(metavar="ID", help="Where steps run that say nothing of it.")
    ] = "",
    tag: Annotated[list[str] | None, typer.Option(help="Repeatable.")] = None,
    detach: Annotated[
        bool, typer.Option("--detach", help="It goes on when the connection is lost.")
    ] = False,
    request_id: Annotated[
        str, typer.Option(metavar="UUID", help="The same again is the same run.")
    ] = "",
    as_json: AsJson = False,
) -> None:
    """Run a workflow and save the pictures of its result."""
    from server.cli.workflow_run import RunOptions
    from server.cli.workflow_run import run as run_workflow

    options = RunOptions(
        tuple(values or ()),
        tuple(images or ()),
        device=device,
        tags=tuple(tag or ()),
        detach=detach,
        request_id=request_id,
    )
    with connected(context) as client:
        leave(run_workflow(client, name, options, output, as_json=as_json))


def _told(stored: workflow_pb2.Workflow, *, as_json: bool) -> None:
    from server.cli.views import write_message

    if as_json:
        write_message(stored)
    else:
        typer.echo(f"Stored {stored.workflow_id}, version {stored.version}.")
