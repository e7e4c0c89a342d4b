"""Batches depend on the seed alone, not on threads, workers or batch size."""

import itertools
import threading
from dataclasses import replace

import pytest
import torch
from phases import loading

from coablate_platform.data.clips import ClipData
from coablate_platform.data.protocols import get_protocol
from coablate_platform.data.video import VideoError
from coablate_platform.study.config import DataConfig
from coablate_platform.study.errors import InputError

CONFIG = DataConfig(frames=4, size=32, skeleton_frames=8)


def _data(store, config: DataConfig = CONFIG, seed: tuple[int, ...] = (1, 2), **options) -> ClipData:
    return ClipData(store, config, get_protocol("utd/cs"), seed, **options)


def _same(one, two) -> bool:
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


def _order(data: ClipData, epoch: int) -> list[int]:
    return torch.cat([batch["index"] for batch in data.train(epoch, loading(5, CONFIG))]).tolist()


def test_sizes_shape_and_keys(store):
    data = _data(store)
    assert data.sizes == {"train": 15, "validation": 5, "test": 20}
    assert data.shape.classes == 3
    assert (data.shape.joints, data.shape.persons, data.shape.skeleton_frames) == (20, 2, 8)
    batch = next(data.train(0, loading(5, CONFIG)))
    assert {name: tuple(tensor.shape) for name, tensor in batch.items()} == {
        "video": (5, 3, 4, 32, 32),
        "skeleton": (5, 3, 8, 20, 2),
        "label": (5,),
        "index": (5,),
    }
    assert batch["label"].tolist() == [int(data.names[row][1:]) % 3 for row in batch["index"].tolist()]


def test_validation_rows_can_train(store):
    config = replace(CONFIG, validation="none")
    assert _data(store, config).sizes == {"train": 20, "validation": 0, "test": 20}


def test_each_epoch_has_its_own_order(store):
    data = _data(store, modalities=("skeleton",))
    orders = [
        torch.cat([batch["index"] for batch in data.train(epoch, loading(5, CONFIG))]).tolist() for epoch in (0, 0, 1)
    ]
    assert orders[0] == orders[1] != orders[2]
    assert sorted(orders[0]) == sorted(orders[2])
    assert _order(_data(store, seed=(1, 3)), 0) != orders[0]


def test_an_incomplete_batch_is_dropped_unless_it_is_the_only_one(store):
    data = _data(store, modalities=("skeleton",))
    assert [len(batch["label"]) for batch in data.train(0, loading(4, CONFIG))] == [4, 4, 4]
    assert [len(batch["label"]) for batch in data.train(0, loading(100, CONFIG))] == [15]
    assert [len(batch["label"]) for batch in data.train(0, loading(100, CONFIG), 0, 2)] == [7]


def test_workers_divide_the_batches_of_a_single_worker(store):
    data = _data(store)
    alone = list(data.train(3, loading(6, CONFIG)))
    shares = [list(data.train(3, loading(6, CONFIG), rank, 2)) for rank in (0, 1)]
    assert len(alone) == len(shares[0]) == len(shares[1]) == 2
    for whole, first, second in zip(alone, *shares, strict=True):
        assert _same(whole, {name: torch.cat([first[name], second[name]]) for name in whole})


def test_a_sample_does_not_depend_on_threads_or_batch_size(store):
    one, many = _data(store, threads=1), _data(store, threads=3)
    for first, second in zip(one.train(1, loading(5, CONFIG)), many.train(1, loading(5, CONFIG)), strict=True):
        assert _same(first, second)
    by_row: dict[int, torch.Tensor] = {}
    for batch in one.train(1, loading(3, CONFIG)):
        by_row |= zip(batch["index"].tolist(), batch["video"], strict=True)
    for batch in many.train(1, loading(5, CONFIG)):
        for row, video in zip(batch["index"].tolist(), batch["video"], strict=True):
            assert torch.equal(by_row[row], video)


def test_every_clip_is_augmented_anew_in_every_epoch_and_run(store, monkeypatch):
    """One clip stands in every row, so samples differ by nothing but their augmentation."""
    clip = store.clip(0)
    monkeypatch.setattr(type(store), "clip", lambda self, row: clip)

    def samples(seed: tuple[int, int], epoch: int) -> list[bytes]:
        batches = _data(store, seed=seed, modalities=("skeleton",)).train(epoch, loading(5, CONFIG))
        return [sample.numpy().tobytes() for batch in batches for sample in batch["skeleton"]]

    every = [samples(seed, epoch) for seed in ((1, 2), (1, 3)) for epoch in (0, 1)]
    assert len(set(itertools.chain(*every))) == 4 * 15
    assert samples((1, 2), 0) == every[0]


def test_evaluation_is_not_augmented_and_in_the_order_of_rows(store):
    data = _data(store)
    batches = list(data.evaluate("test", 8))
    rows = torch.cat([batch["index"] for batch in batches]).tolist()
    assert [len(batch["label"]) for batch in batches] == [8, 8, 4]
    assert rows == sorted(rows)
    assert all(_same(*pair) for pair in zip(batches, _data(store, seed=(9, 9)).evaluate("test", 8), strict=True))
    shares = [torch.cat([batch["index"] for batch in data.evaluate("test", 8, rank, 3)]).tolist() for rank in range(3)]
    assert [len(share) for share in shares] == [7, 7, 6]
    assert list(itertools.chain(*shares)) == rows


def test_modalities(store, skeleton_store):
    assert "video" not in next(_data(store, modalities=("skeleton",)).train(0, loading(4, CONFIG)))
    assert "skeleton" not in next(_data(store, modalities=("video",)).train(0, loading(4, CONFIG)))
    assert set(next(_data(skeleton_store).evaluate("test", 4))) == {"skeleton", "label", "index"}
    with pytest.raises(InputError, match="reads only video, but the store has no video"):
        _data(skeleton_store, modalities=("video",))
    with pytest.raises(InputError, match="sound"):
        _data(store, modalities=("sound",))


def _threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("coablate-clips")]


def test_stopping_early_leaves_no_thread(store):
    batches = _data(store).train(0, loading(2, CONFIG))
    next(batches)
    assert _threads()
    batches.close()
    assert not _threads()
    list(_data(store).train(0, loading(5, CONFIG)))
    assert not _threads()


def test_an_error_reaches_the_consumer(tmp_path, make_store, make_reader, monkeypatch):
    store = make_store(tmp_path / "s", make_reader(clips=20))
    intact = type(store).clip

    def damaged(self, row):
        clip = intact(self, row)
        if row != 9:
            return clip
        return replace(clip, video=replace(clip.video, data=bytes(len(memoryview(clip.video.data)))))

    monkeypatch.setattr(type(store), "clip", damaged)
    with pytest.raises(VideoError, match="c009"):
        list(_data(store).evaluate("test", 4))
    assert not _threads()


def test_impossible_requests_are_refused(store, tmp_path, make_store, make_reader):
    with pytest.raises(InputError, match="shared evenly by 2"):
        _data(store).train(0, loading(5, CONFIG), 0, 2)
    with pytest.raises(InputError, match=r"'ucla/cv' divides clips of 'nw_ucla', but .* holds clips of 'utd_mhad'"):
        ClipData(store, CONFIG, get_protocol("ucla/cv"), (1, 2))
    few = make_store(tmp_path / "few", make_reader(clips=1))
    with pytest.raises(InputError, match="puts none of 1 clips into the test split"):
        _data(few)


def test_views_of_a_clip_are_augmented_independently(store):
    data = _data(store, modalities=("skeleton",))
    batch = next(data.train(0, loading(5, CONFIG, views=3)))
    assert batch["skeleton"].shape == (5, 3, 3, 8, 20, 2)
    assert batch["label"].shape == (5,)
    first, second, third = batch["skeleton"].unbind(1)
    assert not torch.equal(first, second)
    assert not torch.equal(second, third)
    assert _same(batch, next(_data(store, modalities=("skeleton",)).train(0, loading(5, CONFIG, views=3))))


def test_a_phase_has_an_augmentation_of_its_own(store):
    still = {"rotation": 0.0, "tilt": 0.0, "scale": 0.0, "jitter": 0.0, "crop_ratio": 1.0}
    data = _data(store, modalities=("skeleton",))
    batch = next(data.train(0, loading(5, replace(CONFIG, **still))))
    plain = {
        row: skeleton
        for part in data.evaluate("train", 5)
        for row, skeleton in zip(part["index"].tolist(), part["skeleton"], strict=True)
    }
    for row, skeleton in zip(batch["index"].tolist(), batch["skeleton"], strict=True):
        assert torch.equal(skeleton, plain[row])
    sheared = next(data.train(0, loading(5, replace(CONFIG, **still, shear=1.0))))
    assert not torch.equal(sheared["skeleton"], batch["skeleton"])
    corrupted = next(data.train(0, loading(5, replace(CONFIG, **still, corruption=1.0))))
    same = (corrupted["skeleton"] == batch["skeleton"]).all(1).all(1)[..., 0]  # (clip, joint)
    assert same.sum(1).tolist() == pytest.approx([8] * 5, abs=1)  # 12 of 20 are changed; the centre may be zero before


def test_few_labels_are_drawn_by_class_and_seed_and_the_other_splits_stay(store):
    config = replace(CONFIG, labels=0.4)
    data = _data(store, config, modalities=("skeleton",))
    assert data.sizes == {"train": 15, "validation": 5, "test": 20, "labelled": 6}

    def known(seed):
        drawn = _data(store, config, seed=seed, modalities=("skeleton",))
        batches = drawn.train(0, replace(loading(3, config), split="labelled"))
        return sorted(
            (row, label)
            for batch in batches
            for row, label in zip(batch["index"].tolist(), batch["label"].tolist(), strict=True)
        )

    assert [label for _, label in sorted(known((1, 2)), key=lambda pair: pair[1])] == [0, 0, 1, 1, 2, 2]
    assert known((1, 2)) == known((1, 2))
    assert any(known((1, 2)) != known((1, seed)) for seed in (3, 4, 5))
    assert len(list(data.train(0, loading(5, config)))) == 3  # all clips, as pre-training takes them
    least = _data(store, replace(CONFIG, labels=0.001), modalities=("skeleton",))
    assert least.sizes["labelled"] == 3  # one a class
