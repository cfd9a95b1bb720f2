"""`deviceops safety`: judge pictures and prompts; list, show, store and delete policies."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from server.cli.commands.options import AsJson, connected
from server.cli.listing import ListingGroup
from server.cli.reporting import leave, reported

app = typer.Typer(no_args_is_help=True, help="Judge pictures and prompts by safety policies.")
policies = typer.Typer(cls=ListingGroup, help="List, show, store and delete safety policies.")
app.add_typer(policies, name="policies")

Name = Annotated[str, typer.Argument(metavar="NAME")]
File = Annotated[Path, typer.Argument(metavar="FILE", help="A policy as JSON.")]


@app.command("check")
@reported
def check(
    context: typer.Context,
    pictures: Annotated[
        list[str] | None,
        typer.Argument(metavar="PICTURE", help="A file, an artifact id, or SESSION#N."),
    ] = None,
    prompt: Annotated[
        list[str] | None, typer.Option("--prompt", metavar="TEXT", help="Repeatable.")
    ] = None,
    policy: Annotated[
        str, typer.Option(metavar="NAME", help="By default the server's default policy.")
    ] = "",
    version: Annotated[
        int, typer.Option("--version", min=0, metavar="N", help="Of the policy; 0: the newest.")
    ] = 0,
    as_json: AsJson = False,
) -> None:
    """Score pictures and prompts and say what a policy makes of them; nothing is changed."""
    from server.cli import safety_check

    with connected(context) as client:
        leave(
            safety_check.check(
                client, pictures or (), prompt or (), policy, version, as_json=as_json
            )
        )


@policies.callback(invoke_without_command=True)
@reported
def listed(
    context: typer.Context,
    owner: Annotated[str, typer.Option(metavar="NAME", help="Only this client's.")] = "",
    as_json: AsJson = False,
) -> None:
    """List policies by name."""
    if context.invoked_subcommand is not None:
        return
    from deviceops.v1 import safety_pb2
    from server.cli.output import table
    from server.cli.views import write_message

    found = safety_pb2.ListPoliciesResponse()
    request = safety_pb2.ListPoliciesRequest(owner=owner)
    with connected(context) as client:
        for page in client.pages(client.postprocessing.ListPolicies, request):
            found.policies.extend(page.policies)
    if as_json:
        write_message(found)
        return
    table(
        ("policy", "version", "owner", "default", "rules", "words", "about"),
        (
            (
                one.policy_id,
                str(one.version),
                one.owner,
                "yes" if one.is_default else "",
                str(len(one.rules)),
                str(len(one.prompt_words)),
                one.description,
            )
            for one in found.policies
        ),
    )


@policies.command("show")
@reported
def show(
    context: typer.Context,
    name: Name,
    version: Annotated[int, typer.Option("--version", min=0, metavar="N")] = 0,
) -> None:
    """Show a policy as JSON, in the form that `create` and `update` read."""
    from deviceops.v1 import safety_pb2
    from server.cli.views import write_message

    request = safety_pb2.GetPolicyRequest(policy_id=name, version=version)
    with connected(context) as client:
        write_message(client.ask(client.postprocessing.GetPolicy, request).policy)


@policies.command("create")
@reported
def create(context: typer.Context, file: File, as_json: AsJson = False) -> None:
    """Store a policy as version 1."""
    from deviceops.v1 import safety_pb2
    from server.cli.policy_files import read_policy
    from server.cli.views import write_message

    request = safety_pb2.CreatePolicyRequest(policy=read_policy(file))
    with connected(context) as client:
        made = client.ask(client.postprocessing.CreatePolicy, request).policy
    if as_json:
        write_message(made)
    else:
        typer.echo(f"{made.policy_id} is stored as version {made.version}.")


@policies.command("update")
@reported
def update(
    context: typer.Context,
    file: File,
    version: Annotated[
        int, typer.Option("--version", min=1, metavar="N", help="It is changed from this one.")
    ],
    as_json: AsJson = False,
) -> None:
    """Store the next version of a policy; older ones stay as they are."""
    from deviceops.v1 import safety_pb2
    from server.cli.policy_files import read_policy
    from server.cli.views import write_message

    request = safety_pb2.UpdatePolicyRequest(policy=read_policy(file), expected_version=version)
    with connected(context) as client:
        made = client.ask(client.postprocessing.UpdatePolicy, request).policy
    if as_json:
        write_message(made)
    else:
        typer.echo(f"{made.policy_id} has version {made.version} now.")


@policies.command("delete")
@reported
def delete(
    context: typer.Context,
    name: Name,
    version: Annotated[
        int, typer.Option("--version", min=0, metavar="N", help="Only if this is the newest.")
    ] = 0,
) -> None:
    """Delete a policy in all versions."""
    from deviceops.v1 import safety_pb2

    request = safety_pb2.DeletePolicyRequest(policy_id=name, expected_version=version)
    with connected(context) as client:
        client.ask(client.postprocessing.DeletePolicy, request)
    typer.echo(f"{name} is deleted.")
