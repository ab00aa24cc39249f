"""What a list is for beside the best single items: diversity, a person's own mix, and the rules of a shop."""

from foretaste.policies.aims import DPP, MMR, Calibrated
from foretaste.policies.policy import FittedPolicy, Policy
from foretaste.policies.rules import AtMost, MustInclude, Never, OnlyFrom

__all__ = ["DPP", "MMR", "AtMost", "Calibrated", "FittedPolicy", "MustInclude", "Never", "OnlyFrom", "Policy"]
