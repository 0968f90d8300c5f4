"""Rules and routes in the configuration: what they may say, and where they are wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from dcmvault.app.classifying import rules_in_force
from dcmvault.config.load import load_settings
from dcmvault.config.settings import Settings
from dcmvault.errors import ConfigurationError
from dcmvault.model.classification import Conditions
from dcmvault.model.job import Priority
from dcmvault.pipeline.classification import BUILT_IN_RULES

RULE = '[[rules]]\nname = "one"\nmodality = ["CT"]\npriority = "low"\n'
PLAN = '[plans.p]\nsources = ["/a"]\ndestinations = ["/first", "/second"]\n'


def load(tmp_path: Path, text: str) -> Settings:
    config = tmp_path / "config.toml"
    config.write_text(text, "utf-8")
    return load_settings(config)


def test_rules_are_read_in_their_order_before_those_of_the_house(tmp_path: Path) -> None:
    settings = load(
        tmp_path,
        RULE + '[[rules]]\nname = "two"\nwords = ["não  urgente"]\nbody_part = ["head"]\n'
        'older_than = "2w"\nlarger_than = "1.5 GB"\nin_album = false\nraise = -1\n'
        '[classification]\notherwise = "high"\nlearn = false\n',
    )
    one, two, *others = rules_in_force(settings)
    assert (one.name, one.priority, one.built_in) == ("one", Priority.LOW, False)
    assert (two.raises, two.priority) == (-1, None)
    assert two.conditions == Conditions(
        words=("não  urgente",),
        body_part=("HEAD",),
        older_than_s=14 * 24 * 3600,
        larger_than_bytes=1_500_000_000,
        in_album=False,
    )
    assert tuple(others) == BUILT_IN_RULES
    assert settings.classification.otherwise_priority is Priority.HIGH
    assert not settings.classification.learn


def test_the_rules_of_the_house_can_be_left_out(tmp_path: Path) -> None:
    settings = load(tmp_path, RULE + "[classification]\nbuilt_in = false\n")
    assert [rule.name for rule in rules_in_force(settings)] == ["one"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (RULE.replace("modality", "modalty"), "line 3, rules.0.modalty: There is no such key. Did"),
        (RULE + RULE, "line 6, rules.1.name: Another rule has this name."),
        (RULE.replace('"low"', '"lo"'), "line 4, rules.0.priority: Write one of: low, normal"),
        (RULE.replace('["CT"]', '"CT"'), "line 3, rules.0.modality: This must be a list of texts"),
        (RULE.replace('["CT"]', '["C/T"]'), "“C/T” is no code of DICOM"),
        (RULE.replace('["CT"]', "[]"), "line 1, rules.0: A rule needs a condition"),
        (RULE.replace('modality = ["CT"]', 'words = ["..."]'), "“...” has no word in it."),
        (RULE.replace('modality = ["CT"]', 'station = [" "]'), "An empty text matches nothing."),
        (RULE.replace('modality = ["CT"]', 'larger_than = "big"'), "Write a size such as"),
        (RULE.replace('modality = ["CT"]', 'older_than = "1 month"'), "Write an age such as"),
        (RULE + "raise = 1\n", "rules.0: A rule has either “priority” or “raise”."),
        (RULE.replace('priority = "low"', ""), "rules.0: A rule has either “priority” or “raise”."),
        (RULE.replace('priority = "low"', "raise = 9"), "rules.0.raise: This must be at most 3."),
        (RULE.replace('name = "one"', ""), "rules.0.name: This key is needed."),
        ("[classification]\nbuildin = true", "classification.buildin: There is no such key. Did"),
        (PLAN + '[plans.p.routing]\nmode = "mirrored"', "line 5, plans.p.routing.mode: Write one"),
        (PLAN + '[plans.p.routing]\nmod = "mirror"', "plans.p.routing.mod: There is no such key"),
        (
            PLAN + '[[plans.p.routing.rules]]\nmodality = ["CT"]\nto = ["/frist"]',
            "line 6, plans.p.routing.rules.0.to: “/frist” is no destination of this plan. Did",
        ),
        (PLAN + '[[plans.p.routing.rules]]\nto = ["/first"]', "rules.0: A rule needs a condition"),
        (PLAN + '[[plans.p.routing.rules]]\nmodality = ["CT"]', "rules.0.to: This key is needed."),
    ],
)
def test_a_bad_rule_is_pointed_at(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        load(tmp_path, text)
    assert says in refused.value.message
