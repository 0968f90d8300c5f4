"""Whatever a description of a library says, what is made of it is what the viewer can read."""

from __future__ import annotations

import json
import plistlib
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from dcmvault.app.library_user_data import (
    albums_left_out,
    annotations_of,
    importable_albums,
    left_over,
    read_library_json,
)
from dcmvault.dicom.property_list import property_list

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8) | st.sampled_from(["1.2", ""])
SCALARS = TEXTS | st.integers(-5, 5) | st.booleans() | st.none() | st.just({"base64": "AA=="})
NAMES = st.sampled_from(
    [
        "name",
        "smart",
        "predicate",
        "studies",
        "study_instance_uid",
        "patient_uid",
        "series_instance_uid",
        "viewer_series",
        "sop_instance_uid",
        "frame",
        "key_image",
        "comment",
        "comment3",
        "state",
        "report",
        "locked",
        "window_width",
    ]
)
OBJECTS = st.dictionaries(NAMES, SCALARS | st.lists(st.dictionaries(NAMES, SCALARS), max_size=2))
ROWS = st.lists(OBJECTS | SCALARS, max_size=3) | SCALARS


@given(ROWS, ROWS, ROWS, ROWS, st.booleans())
def test_any_description_is_read(
    albums: Any, studies: Any, series: Any, instances: Any, whole: bool
) -> None:
    document = {
        "format": "dcmvault library",
        "albums": albums,
        "studies": studies,
        "series": series,
        "instances": instances,
    }
    library = read_library_json(json.dumps(document).encode())
    listed = importable_albums(library, lambda _uid: True, lambda _uid: {}, whole=whole)
    assert isinstance(plistlib.loads(property_list(listed)), list)
    for study in ("1.2", ""):
        said = annotations_of(library, study)
        assert not said or said["studyInstanceUID"] == study
        assert isinstance(plistlib.loads(property_list(said)), dict)
        json.dumps(list(left_over(library, study)))
    albums_left_out(library)
    list(library.reports())
