"""What of a record must be the same when a run is resumed."""

from finetune.runs.describe import identity
from tests.helpers.records import make_record


def test_the_plug_ins_that_bear_on_the_result_are_part_of_the_identity():
    record = make_record()
    before = identity(record)
    record.plugins = {"metrics.gap": "acme 1.2", "trackers.notes": "bolt 3"}
    assert identity(record) == {**before, "plugins.metrics.gap": "acme 1.2"}
