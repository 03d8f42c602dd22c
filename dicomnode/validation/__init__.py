"""Other people's validators: how each is run and read, and which of its lines are harmless, in this one place."""

from dicomnode.validation.allowed import ALLOWED, Allowed, why_harmless
from dicomnode.validation.validators import VALIDATORS, Validator, validator_named

__all__ = ["ALLOWED", "VALIDATORS", "Allowed", "Validator", "validator_named", "why_harmless"]
