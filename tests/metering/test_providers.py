import pytest

from solaris_meter.metering.providers import Providers
from solaris_meter.settings import DEFAULT_ROUTES


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("api.openai.com", "openai"),
        ("eu.api.openai.com", "openai"),
        ("API.Anthropic.com", "anthropic"),
        ("generativelanguage.googleapis.com", "google"),
        ("aiplatform.googleapis.com", "vertex_ai"),
        ("us-central1-aiplatform.googleapis.com", "vertex_ai"),
        ("empresa.openai.azure.com", "azure"),
        ("empresa.services.ai.azure.com", "azure"),
        ("bedrock-runtime.sa-east-1.amazonaws.com", "bedrock"),
        ("bedrock-runtime-fips.us-east-1.amazonaws.com", "bedrock"),
        ("openrouter.ai", "openrouter"),
        ("api.moonshot.cn", "moonshot"),
    ],
)
def test_a_known_host_is_a_provider(host, name):
    assert Providers({}, []).name(host) == name


@pytest.mark.parametrize(
    "host",
    [
        "example.com",
        "api.openai.com.evil.example",
        "notapi.openai.com",
        "apiXopenai.com",
        "openai.com",
        "s3.amazonaws.com",
        "",
        "api.openai.com\n",
    ],
)
def test_any_other_host_is_none(host):
    assert Providers(DEFAULT_ROUTES, []).name(host) is None


def test_a_route_names_its_host():
    providers = Providers({"llm": "http://LLM.intern:8000/v1"}, [])
    assert providers.name("llm.intern") == "llm"
    assert providers.name("Llm.Intern") == "llm"


def test_a_well_known_host_keeps_its_name_whatever_its_route_is_called():
    assert Providers({"meu": "https://api.openai.com"}, ["api.groq.com"]).name("api.openai.com") == "openai"


def test_a_host_of_the_policy_is_called_by_its_own_name():
    assert Providers({}, ["Models.Example.com"]).name("models.example.COM") == "models.example.com"


def test_every_default_route_leads_to_a_known_provider():
    providers = Providers({}, [])
    hosts = [url.removeprefix("https://") for url in DEFAULT_ROUTES.values()]
    assert {providers.name(host) for host in hosts} == set(DEFAULT_ROUTES)
