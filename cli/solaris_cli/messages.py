"""Messages: the texts people read in the chat and in e-mails, and the operator's own ones."""

import sys
from pathlib import Path

import click

from solaris_cli.context import Context, json_option, pass_context
from solaris_cli.output import print_json

# What reads and fills texts is imported where it is used: no other command needs it.


@click.group()
def messages() -> None:
    """What people read, and your own words for it."""


@messages.command("show")
@click.option("--language", metavar="LANGUAGE", help="pt-BR or en, instead of the one in the settings.")
@click.option("--usual", is_flag=True, help="Without own texts.")
@json_option
@pass_context
def messages_show(context: Context, language: str | None, usual: bool, as_json: bool) -> None:
    """Every text by its key, as a person would see it, with example values.

    Own texts (locale.messages) stand in their places; they are of the language in the settings, and of no other.
    """
    from solaris_meter.chat import catalogue
    from solaris_meter.chat.examples import examples
    from solaris_meter.chat.texts import Texts

    if language is not None and language not in catalogue.LANGUAGES:
        raise click.BadParameter(
            f"{language!r} is not one of {', '.join(catalogue.LANGUAGES)}", param_hint="--language"
        )
    settings = context.settings
    if usual or language not in {None, settings.locale.language}:
        texts = Texts(language or settings.locale.language, settings.purchase, settings.web.base_url)
    else:
        texts = Texts.from_settings(settings)
    filled = examples(texts)
    if as_json:
        rows = [
            {"key": key, "own": key in texts.own, "template": texts.text(key), "text": text}
            for key, text in filled.items()
        ]
        print_json({"language": texts.language, "messages": rows})
        return
    for key, text in filled.items():
        names = [f"{{{name}}}" for name in dict.fromkeys(catalogue.PLACEHOLDER.findall(texts.text(key)))]
        click.echo(" ".join([key, *names, *(["(own)"] if key in texts.own else [])]))
        click.echo("".join(f"    {line}".rstrip() + "\n" for line in text.split("\n")))


@messages.command("check")
@click.argument("file", required=False, type=click.Path(path_type=Path))
@json_option
@pass_context
def messages_check(context: Context, file: Path | None, as_json: bool) -> None:
    """Check a file of own texts, the one in the settings unless another is named. Exit 1 names each problem."""
    from solaris_meter.chat import catalogue

    if file is None and (named := context.settings.locale.messages):
        file = Path(named)
    problems = catalogue.problems(file) if file else []
    if as_json:
        found = [{"key": problem.key or None, "problem": problem.text} for problem in problems]
        print_json({"ok": not problems, "file": str(file) if file else None, "problems": found})
    elif file is None:
        click.echo("no own texts: locale.messages is not set")
    elif not problems:
        click.echo(f"{file}: ok")
    for problem in [] if as_json else problems:
        click.echo(f"{file}: {problem}")
    if problems:
        sys.exit(1)
