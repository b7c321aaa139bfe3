"""What operators can set."""

from pydantic import Field, field_validator

from ucm.api import PluginSettings


class DemoSettings(PluginSettings):
    """Settings of the demo plugin."""

    key_directory: str = Field(
        default="",
        description="Directory of the key files, mode 0700; empty: the key backend is off.",
    )
    keep_days: int = Field(
        default=30, ge=0, le=3650, description="Days that an expired entry stays before removal."
    )

    @field_validator("key_directory")
    @classmethod
    def _absolute(cls, value: str) -> str:
        if value and not value.startswith("/"):
            raise ValueError("must be an absolute path, like /var/lib/ucm/demo-keys")
        return value
