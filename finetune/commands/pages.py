"""The pages of `--help`: one for the program and one for every verb. This module imports nothing."""

PROGRAM = "python -m finetune"  # replaced by the command that the user typed

OVERVIEW = """\
Fine-tune pretrained Keras models: freeze by plan, unfreeze by phase, prove what stayed fixed.

usage: python -m finetune [VERB] [ARGUMENTS…]

verbs (python -m finetune VERB --help shows the options of each)
  train     [OVERRIDES…]: train and write a run directory; the default verb
  check     [OVERRIDES…]: validate, build, and run one real step of each phase; trains nothing
  inspect   [OVERRIDES…]: show stages, freeze plan and weight counts of every phase; trains nothing
  resume    RUN_DIR: continue a run exactly where it stopped
  report    RUN_DIR or SWEEP_DIR: write report.html and plots/ again
  compare   RUN_DIR…: show runs side by side
  evaluate  RUN_DIR: measure the trained model on a split; nothing is written
  predict   RUN_DIR FILE…: show the predictions of the trained model
  export    RUN_DIR --format FORMAT: write the model for another runtime
  catalog   [CATALOG]: list backbones, datasets, schedules, policies, metrics, trackers, …

RUN_DIR is the directory of a run, or latest for the newest run in outputs/ and multirun/.

options of every verb
  -q, --quiet     print only errors and the requested output
  -v, --verbose   print the whole table of weight counts for every phase, not only the changes
  -h, --help      show the page of the verb
  --version       show the version

overrides
  experiment=resnet_freeze                      a whole run by name
  backbone=… dataset=… schedule=… optimizer=…   a config of a group
  seed=1 dataset.batch_size=64                  any key of the config
  schedule.phases.head.learning_rate=3e-3       a phase by its name
  ~schedule.phases.head                         leave a phase out
  hydra.run.dir=DIR                             the run directory
  --config-dir DIR                              an additional directory of configs

examples
  python -m finetune experiment=resnet_freeze
  python -m finetune inspect experiment=resnet_freeze
  python -m finetune -m experiment=resnet_probe seed=0,1,2 dataset.train_per_class=10
"""

_RUN_DIR = "  RUN_DIR            the directory of a completed run, or latest for the newest run\n"

VERBS = {
    "train": """\
usage: python -m finetune [train] [OVERRIDES…] [-m]

Trains a model through the phases of a schedule and writes a run directory: outputs/DATE/TIME, or
hydra.run.dir=DIR. A command that fails before it trains leaves no directory behind.

arguments
  OVERRIDES          KEY=VALUE of the config, GROUP=NAME, ~schedule.phases.NAME

options
  -m, --multirun     run one job for every combination of a=1,2 b=x,y, in multirun/DATE/TIME/JOB
                     or hydra.sweep.dir=DIR
  --config-dir DIR   also search DIR for configs: DIR/schedule/mine.yaml is schedule=mine
  --cfg job          print the composed config and stop

examples
  python -m finetune experiment=resnet_freeze
  python -m finetune dataset=image_folder dataset.path=flowers schedule=progressive
  python -m finetune -m experiment=resnet_probe seed=0,1,2 dataset.train_per_class=10
""",
    "check": """\
usage: python -m finetune check [OVERRIDES…] [--config-dir DIR]

Composes and validates the config, builds the model and the data, and runs one real step of every
phase, with validation and test. It trains nothing and writes nothing.

arguments
  OVERRIDES          as for train

options
  --config-dir DIR   also search DIR for configs

examples
  python -m finetune check experiment=resnet_freeze
""",
    "inspect": """\
usage: python -m finetune inspect [OVERRIDES…] [--picture FILE] [--config-dir DIR]

Shows the stages, the freeze plan and the weight counts of every phase. It trains nothing.

arguments
  OVERRIDES          as for train

options
  --picture FILE     also draw the freeze map, to a file that ends with .png or .svg
  --config-dir DIR   also search DIR for configs

examples
  python -m finetune inspect experiment=resnet_freeze --picture freeze_map.png
""",
    "resume": """\
usage: python -m finetune resume RUN_DIR [--allow-changed] [OVERRIDES…]

Continues a run exactly where it stopped. The result is the same as without the interruption.

arguments
  RUN_DIR            the directory of the run, or latest for the newest run
  OVERRIDES          KEY=VALUE to change, with --allow-changed

options
  --allow-changed    continue even if the config, dataset, backbone or a library has changed

examples
  python -m finetune resume latest
  python -m finetune resume outputs/DATE/TIME --allow-changed schedule.phases.full.learning_rate=1e-4
""",
    "report": """\
usage: python -m finetune report RUN_DIR | SWEEP_DIR

Writes report.html and plots/ of a run again, whether or not it has finished. For a sweep, writes one
page that shows all of its runs side by side.

arguments
  RUN_DIR            the directory of a run, or latest for the newest run
  SWEEP_DIR          a directory with runs below it

examples
  python -m finetune report latest
""",
    "compare": """\
usage: python -m finetune compare RUN_DIR… [--format FORMAT] [--output FILE] [--sort KEY]

Shows runs side by side: the differences between their configs, and their metrics.

arguments
  RUN_DIR            directories of runs; that of a sweep stands for all runs below it

options
  --format FORMAT    table (default), json, csv or html
  --output FILE      write to FILE; its suffix is the default format
  --sort KEY         sort by a column, the best run first, e.g. test.accuracy

examples
  python -m finetune compare multirun/DATE/TIME --sort test.accuracy
  python -m finetune compare outputs/DATE/TIME latest --output compared.html
""",
    "evaluate": f"""\
usage: python -m finetune evaluate RUN_DIR [OVERRIDES…] [--format FORMAT]

Measures the trained model on the test split of its data, or on other data. It writes no file.

arguments
{_RUN_DIR}\
  split=SPLIT        train, validation or test of the data of the run, or of other files
  dataset.path=PATH  other files: their test split, or all files if they have no splits; labels are
                     matched by name (dataset.name, dataset.columns… may also be given)

options
  --format FORMAT    table (default), json or csv

examples
  python -m finetune evaluate latest
  python -m finetune evaluate outputs/DATE/TIME split=validation --format json
""",
    "predict": f"""\
usage: python -m finetune predict RUN_DIR FILE… [--top-k K] [--format FORMAT] [--batch-size N]
                                  [--device DEVICE]

Shows the predictions of the trained model for every example, the most probable labels first.

arguments
{_RUN_DIR}\
  FILE               images and folders of images; for a text model "a text", .txt (one text per
                     line) and tables (one text per row); .npy for a model of FineTuner; - reads
                     lines of stdin: texts or file names

options
  --top-k K          number of labels to show (default 3; all labels of a multi-label model)
  --format FORMAT    table (default), json, jsonl or csv
  --batch-size N     number of examples in a batch (default 32)
  --device DEVICE    auto (default), cpu or gpu

examples
  python -m finetune predict latest flowers/ --top-k 2
""",
    "export": f"""\
usage: python -m finetune export RUN_DIR --format FORMAT [--output DIR]

Writes the trained model for another runtime, with its preprocessing if the format allows it, and
compares its output in that runtime with the run.

arguments
{_RUN_DIR}
options
  --format FORMAT    keras, saved_model, onnx or litert
  --output DIR       output directory (default RUN_DIR/export/FORMAT)

examples
  python -m finetune export latest --format onnx
""",
    "catalog": """\
usage: python -m finetune catalog [CATALOG…] [features --clear]

Lists everything that a config can name, with sizes, what is already on disk, and the package that
each entry comes from. A plug-in that cannot be imported is listed as broken, with the reason.

arguments
  CATALOG            backbones, datasets, schedules, experiments, policies, metrics, trackers or
                     features (default: all)

options
  --clear            with features: delete all stored features

examples
  python -m finetune catalog datasets
  python -m finetune catalog features --clear
""",
}

_OF_EVERY_VERB = """
options of every verb
  -q, --quiet        print only errors and the requested output
  -v, --verbose      print the whole table of weight counts for every phase
  -h, --help         show this page
"""


def page(verb: str | None, program: str = PROGRAM) -> str:
    """Returns a page of `--help`.

    Args:
        verb: Verb to describe; None for the program.
        program: Command that the user typed.
    """
    text = OVERVIEW if verb is None else VERBS[verb] + _OF_EVERY_VERB
    return text.replace(PROGRAM, program)
