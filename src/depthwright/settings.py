"""The only reader of the environment: one table of settings, each with its name, default and help."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, ValidationError

from depthwright.errors import InvalidParameter
from depthwright.parameters import Compile, SizeBounds

PREFIX = "DEPTHWRIGHT_"


class Settings(BaseModel):
    """What an operator may set. A variable is the field's name in capitals after `DEPTHWRIGHT_`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    profile: str = Field(
        default="embedded",
        min_length=1,
        description="The model to use: a profile's name or its TOML file.",
        json_schema_extra={"allowed": "a profile's name or a TOML file"},
    )
    device: str | None = Field(
        default=None,
        min_length=1,
        description="The torch device, such as cpu, cuda:0 or mps; the best one there is when absent.",
        json_schema_extra={"allowed": "a torch device"},
    )
    cache: Annotated[Path, BeforeValidator(lambda value: Path(value).expanduser())] = Field(
        default_factory=lambda: Path("~/.cache/depthwright").expanduser(),
        description="The folder where digests of weights are remembered.",
        json_schema_extra={"allowed": "a folder"},
    )
    compile: Compile = Field(
        default="auto",
        description="Whether the transformer's blocks are compiled: auto does it on GPUs.",
        json_schema_extra={"allowed": "auto, always or never"},
    )
    shortest_side: int = Field(
        default=SizeBounds().shortest,
        ge=16,
        le=4096,
        description="The shortest side of a picture that is accepted, in pixels.",
        json_schema_extra={"allowed": "a whole number from 16 to 4096"},
    )
    longest_side: int = Field(
        default=SizeBounds().longest,
        ge=16,
        le=4096,
        description="The longest side of a picture that is accepted, in pixels.",
        json_schema_extra={"allowed": "a whole number from 16 to 4096"},
    )
    data_dir: Annotated[Path, BeforeValidator(lambda value: Path(value).expanduser())] = Field(
        default_factory=lambda: Path("~/.local/share/depthwright").expanduser(),
        description="The folder that holds everything the server keeps: database, pictures, uploads.",
        json_schema_extra={"allowed": "a folder"},
    )
    host: str = Field(
        default="127.0.0.1",
        min_length=1,
        description="The address that the server listens on; anything but loopback opens it to a network.",
        json_schema_extra={"allowed": "an IP address or a host name"},
    )
    port: int = Field(
        default=8000,
        ge=0,
        le=65535,
        description="The port that the server listens on; 0 takes a free one.",
        json_schema_extra={"allowed": "a whole number from 0 to 65535"},
    )
    public_url: str | None = Field(
        default=None,
        pattern=r"^https?://[^\s?#]+$",
        description="How clients reach the server, where a proxy stands before it; the request's own host when absent.",
        json_schema_extra={"allowed": "an http or https URL"},
    )
    allowed_hosts: str = Field(
        default="",
        description="Hosts that control images, LoRAs and webhooks may use though they are private or speak http: "
        "host or host:port, by commas.",
        json_schema_extra={"allowed": "host names or addresses, by commas"},
    )
    hub: str = Field(
        default="https://huggingface.co",
        pattern=r"^https?://[^\s?#]+$",
        description="The hub where LoRAs named as user/name are, or a mirror of it.",
        json_schema_extra={"allowed": "an http or https URL"},
    )
    lora_megabytes: int = Field(
        default=1000,
        ge=0,
        description="How large a LoRA may be that a request brings, in MB.",
        json_schema_extra={"allowed": "a whole number from 0"},
    )
    lora_seconds: float = Field(
        default=120,
        gt=0,
        description="For how long a LoRA may be fetched.",
        json_schema_extra={"allowed": "a number of seconds above 0"},
    )
    lora_cache_gigabytes: float = Field(
        default=20,
        ge=0,
        description="How much room the LoRAs that were fetched may take, in GB; those used longest ago go first.",
        json_schema_extra={"allowed": "a number from 0"},
    )
    retention_days: float = Field(
        default=7,
        gt=0,
        description="For how many days predictions, pictures and uploads are kept.",
        json_schema_extra={"allowed": "a number above 0"},
    )
    requests_per_minute: int = Field(
        default=600,
        ge=0,
        description="How many submissions and uploads a key may send in a minute; 0 does not limit.",
        json_schema_extra={"allowed": "a whole number from 0"},
    )
    concurrent_predictions: int = Field(
        default=100,
        ge=0,
        description="How many predictions of a key may wait or run at once; 0 does not limit.",
        json_schema_extra={"allowed": "a whole number from 0"},
    )
    lease_seconds: float = Field(
        default=10,
        ge=0.5,
        description="After how long without a sign of life a worker is taken for dead.",
        json_schema_extra={"allowed": "a number of seconds from 0.5"},
    )
    stall_seconds: float = Field(
        default=600,
        ge=1,
        description="After how long without a step the model is taken for stuck, and its worker for dead.",
        json_schema_extra={"allowed": "a number of seconds from 1"},
    )
    unchecked: str | None = Field(
        default=None,
        min_length=1,
        description="The name of the profile that may do without its image checker; whoever sets this looks at the "
        "pictures instead.",
        json_schema_extra={"allowed": "the profile's name"},
    )
    enforce_checker: bool = Field(
        default=False,
        description="Whether pictures are checked even where a request says enable_safety_checker: false.",
        json_schema_extra={"allowed": "true or false"},
    )
    policy_off: str = Field(
        default="",
        description="Categories of the prompt policy that are not to act, by commas; `minors` always acts.",
        json_schema_extra={"allowed": "names of categories, by commas"},
    )
    keep_prompts: bool = Field(
        default=False,
        description="Whether the audit log keeps the prompts that were refused, instead of their digests.",
        json_schema_extra={"allowed": "true or false"},
    )
    audit_pictures: bool = Field(
        default=False,
        description="Whether the audit log also keeps which key had which picture made, by the hash in its receipt.",
        json_schema_extra={"allowed": "true or false"},
    )
    prompts_in_files: bool = Field(
        default=False,
        description="Whether the files of pictures tell their prompts; otherwise they hold a digest.",
        json_schema_extra={"allowed": "true or false"},
    )
    certificate: Annotated[Path | None, BeforeValidator(lambda value: value and Path(value).expanduser())] = (
        Field(
            default=None,
            description="The certificates, in PEM with the signer's first, that pictures are signed with; one of this "
            "installation's own when absent.",
            json_schema_extra={"allowed": "a PEM file"},
        )
    )
    certificate_key: Annotated[
        Path | None, BeforeValidator(lambda value: value and Path(value).expanduser())
    ] = Field(
        default=None,
        description="The key of that certificate, in PEM without a passphrase.",
        json_schema_extra={"allowed": "a PEM file"},
    )
    sync_seconds: float = Field(
        default=120,
        ge=0,
        description="How long a request in sync mode waits for its pictures.",
        json_schema_extra={"allowed": "a number of seconds from 0"},
    )
    workers: int | None = Field(
        default=None,
        ge=0,
        le=64,
        description="How many worker processes the server keeps alive, each with a model of its own; one for each GPU, "
        "or one, when absent.",
        json_schema_extra={"allowed": "a whole number from 0 to 64"},
    )
    server: str | None = Field(
        default=None,
        description="The server that `depthwright generate` sends its work to, instead of loading a model.",
        json_schema_extra={"allowed": "an http or https URL"},
    )
    key: SecretStr | None = Field(
        default=None,
        description="The key for that server.",
        json_schema_extra={"allowed": "a key from `depthwright keys create`"},
    )
    debug: bool = Field(
        default=False,
        description="Whether the command shows the traceback of an unexpected error.",
        json_schema_extra={"allowed": "true or false"},
    )

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> Self:
        """Read the variables; an empty one counts as absent. Raises InvalidParameter with its name."""
        environment = os.environ if environment is None else environment
        given = {
            name: environment[variable(name)] for name in cls.model_fields if environment.get(variable(name))
        }
        try:
            settings = cls.model_validate(given)
        except ValidationError as error:
            name = str(error.errors(include_url=False)[0]["loc"][0])
            allowed = cls.model_json_schema()["properties"][name]["allowed"]
            raise InvalidParameter(variable(name), given[name], allowed) from None
        if settings.shortest_side > settings.longest_side:
            raise InvalidParameter(
                variable("shortest_side"),
                settings.shortest_side,
                f"at most {settings.longest_side}, the longest",
            )
        if (settings.certificate is None) != (settings.certificate_key is None):
            raise InvalidParameter(
                variable("certificate_key"),
                settings.certificate_key,
                f"given together with {variable('certificate')}, or not at all",
            )
        return settings

    @staticmethod
    def debugging() -> bool:
        """The debug setting alone, even where another variable is wrong."""
        return os.environ.get(variable("debug"), "").lower() in ("1", "true", "yes", "on")

    def environment(self) -> dict[str, str]:
        """This process's environment with these settings in it, for a process of our own to be started in."""
        told = {
            variable(name): str(value)
            for name in type(self).model_fields
            if (value := getattr(self, name)) is not None and name not in ("key", "server")
        }
        secrets = (variable("key"), variable("server"))
        return {name: value for name, value in os.environ.items() if name not in secrets} | told

    def keep_compiled(self) -> None:
        """Have torch keep what it compiles in the cache folder: its own default does not outlive a restart."""
        os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(self.cache / "compiled"))

    @property
    def hosts(self) -> tuple[str, ...]:
        """The allow-list, one by one."""
        return _each(self.allowed_hosts)

    @property
    def certificates(self) -> Path:
        """The folder of the certificates that this installation makes for itself."""
        return self.data_dir / "certificates"

    @property
    def categories_off(self) -> tuple[str, ...]:
        """The categories of the prompt policy that do not act, one by one."""
        return _each(self.policy_off)

    @property
    def size_bounds(self) -> SizeBounds:
        """The sizes that requests may ask for."""
        return SizeBounds(self.shortest_side, self.longest_side)


def variable(name: str) -> str:
    """The environment variable of a setting."""
    return PREFIX + name.upper()


def _each(names: str) -> tuple[str, ...]:
    return tuple(filter(None, (name.strip() for name in names.split(","))))
