"""Codes in a file are those in memory, and are in memory only while somebody holds them."""
import dataclasses
import os
from pathlib import Path

import numpy as np
import pytest

from hwgen.models import quantize, random_checkpoint
from hwgen.models.pack import sections
from hwgen.models.store import Store
from hwgen.params.hardware import Recipe
from sim.designs import small_design


@pytest.mark.parametrize("formats", [{}, {"head": "pair"}, {"scales": "row"}])
def test_a_stored_model_is_the_model(tmp_path, formats):
    design = small_design(tie_word_embeddings=False)
    recipe = dataclasses.replace(design.recipe, **formats)
    design, checkpoint = dataclasses.replace(design, recipe=recipe), random_checkpoint(design.model)
    kept, stored = quantize(checkpoint, recipe), quantize(checkpoint, recipe, put=Store(tmp_path).put)
    assert stored.digest == kept.digest
    for ours, theirs in zip(sections(stored, design), sections(kept, design), strict=True):
        assert np.array_equal(ours, theirs)
    assert (stored.head.lo is None) == (kept.head.lo is None)
    assert not any(tmp_path.iterdir())      # the file has no name


def mapped():
    """How many parts of files without a name this process has mapped."""
    return Path("/proc/self/maps").read_text().count("(deleted)")


@pytest.mark.skipif(not os.path.exists("/proc/self/maps"), reason="Linux says what is mapped")
def test_codes_are_mapped_while_they_are_held(tmp_path):
    shape = random_checkpoint(small_design().model).shape
    before = mapped()
    model = quantize(random_checkpoint(shape), Recipe(), put=Store(tmp_path).put)
    assert mapped() == before
    codes = model.head.codes
    assert mapped() == before + 1 and codes.shape == (shape.vocab_size, shape.hidden_size)
    del codes
    assert mapped() == before


def test_a_full_disk_is_the_folders(tmp_path, monkeypatch):
    store = Store(tmp_path)
    with open("/dev/full", "r+b", buffering=0) as file, pytest.raises(OSError, match="No space left") as full:
        monkeypatch.setattr(store, "_file", file)
        quantize(random_checkpoint(small_design().model), Recipe(), put=store.put)
    assert full.value.filename == str(tmp_path)
