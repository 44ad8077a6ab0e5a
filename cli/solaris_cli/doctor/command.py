"""`solaris-cli doctor`: is everything as it must be, and if not, what to do."""

import sys
from pathlib import Path

import click

from solaris_cli.context import Context, json_option, pass_context
from solaris_cli.output import print_json


@click.command()
@click.option(
    "--librechat",
    "librechat_path",
    type=click.Path(path_type=Path),
    metavar="PATH",
    help="LibreChat's folder, or its librechat.yaml: its .env and compose files are read, too.",
)
@click.option("--sidecar", metavar="URL", help="A running sidecar, to ask for what it must refuse; costs no tokens.")
@click.option(
    "--ca",
    "confdir",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="FOLDER",
    envvar="MITMPROXY_CONFDIR",
    show_envvar=True,
    help="mitmproxy's folder (confdir), with its CA and config.yaml.  [default: ~/.mitmproxy]",
)
@json_option
@pass_context
def doctor(
    context: Context, librechat_path: Path | None, sidecar: str | None, confdir: Path | None, as_json: bool
) -> None:
    """Check settings, database, clock, CA and LibreChat, and say what to fix. Exit 1 where something is broken.

    \b
    solaris-cli doctor --librechat /srv/librechat --sidecar http://127.0.0.1:8080
    """
    # Loaded here: every other command starts without it.
    from solaris_cli.doctor.examination import examine

    findings = list(examine(context, librechat_path, sidecar, confdir))
    broken = any(finding.level == "fault" for finding in findings)
    if as_json:
        print_json({"ok": not broken, "findings": [finding.as_dict() for finding in findings]})
    else:
        for finding in findings:
            click.echo(f"{finding.level:8} {finding.subject}: {finding.text}")
            if finding.remedy:
                click.echo(f"         → {finding.remedy}")
    if broken:
        sys.exit(1)
