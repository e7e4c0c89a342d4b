"""The description of a store."""

from coablate_platform.data.info import describe_store


def test_a_store_in_numbers(store):
    described = describe_store(store)
    assert (described.clips, described.joints, described.persons) == (40, 20, 2)
    assert described.clips_per_class == (14, 13, 13)
    assert described.frames == (20, 39.5, 59)
    assert described.video_sizes == {(48, 64): 40}
    assert described.fingerprint == store.fingerprint
    assert described.recipe["short_side"] == 48
    (standard,) = [protocol for protocol in described.protocols if protocol.default]
    assert (standard.name, standard.train, standard.validation, standard.test) == ("utd/cs", 15, 5, 20)
    assert standard.rule == "training subject 7"


def test_a_store_without_video_has_no_sizes(skeleton_store):
    assert describe_store(skeleton_store).video_sizes == {}
