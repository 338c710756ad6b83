"""The closed list of KerasHub families that can be fine-tuned, with their properties."""

import inspect
from dataclasses import dataclass
from typing import Any

import keras
import keras_hub


@dataclass(frozen=True)
class Family:
    """An architecture of KerasHub.

    Args:
        name: Name of KerasHub's package, e.g. ``distil_bert``.
        classes: Prefix of the class names, e.g. ``DistilBert``.
        kind: Kind of the input, ``image`` or ``text``.
        model_types: `model_type` of the Hugging Face directories that KerasHub converts.
        prefix: Prefix of the weight names in those directories that KerasHub's converter expects.
            Files saved from the bare model do not have it.
        left_out: Pairs of (constructor argument, key of config.json) that KerasHub's converter
            drops.
        architectures: Exact names of the timm architectures that KerasHub converts.
        untrainable: Names of weights that cannot be trained: no classifier reaches DINO's mask
            token, and KerasHub 0.32 loses trained positions of DINOv2 when it saves them.
        optional: Layers that a checkpoint may lack because not every head needs them: a masked
            language model has no pooler.
        tokenizer: ``wordpiece``, ``bpe``, or the file name of a SentencePiece model.
    """

    name: str
    classes: str
    kind: str = "image"
    model_types: tuple[str, ...] = ()
    prefix: str = ""
    left_out: tuple[tuple[str, str], ...] = ()
    architectures: tuple[str, ...] = ()
    untrainable: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    tokenizer: str | None = None

    @property
    def backbone(self) -> Any:
        """KerasHub's backbone class."""
        return getattr(keras_hub.models, f"{self.classes}Backbone")

    @property
    def registered_name(self) -> str:
        """The name of the backbone class in config.json of a KerasHub preset."""
        return str(keras.saving.get_registered_name(self.backbone))

    @property
    def classifier(self) -> Any:
        """KerasHub's task class with a head, or None if there is none."""
        task = "Text" if self.kind == "text" else "Image"
        return getattr(keras_hub.models, f"{self.classes}{task}Classifier", None)

    @property
    def image_converter(self) -> Any:
        """KerasHub's image converter class of an image family."""
        return getattr(keras_hub.layers, f"{self.classes}ImageConverter")

    @property
    def preprocessor(self) -> Any:
        """KerasHub's preprocessor class: the classifier's, or one that only converts images."""
        if self.classifier is None:
            return keras_hub.models.ImageClassifierPreprocessor
        return self.classifier.preprocessor_cls


def _text(name: str, classes: str, tokenizer: str, **more: Any) -> Family:
    return Family(name, classes, "text", tokenizer=tokenizer, **more)


FAMILIES: tuple[Family, ...] = (
    Family(
        "cspnet",
        "CSPNet",
        architectures=("cspdarknet53", "cspresnet50", "cspresnext50", "darknet53"),
    ),
    Family("deit", "DeiT", model_types=("deit",), prefix="deit."),
    Family("densenet", "DenseNet", architectures=("densenet121", "densenet169", "densenet201")),
    Family(
        "dinov2",
        "DINOV2",
        model_types=("dinov2", "dinov2_with_registers"),
        untrainable=("mask_token", "interpolated_position_embeddings"),
    ),
    Family("dinov3", "DINOV3", model_types=("dinov3_vit",), untrainable=("mask_token",)),
    Family(
        "efficientnet",
        "EfficientNet",
        architectures=tuple(
            f"efficientnet_{variant}"
            for variant in "b0 b1 b2 b3 b4 b5 lite0 el em es rw_m rw_s rw_t".split()
        ),
    ),
    Family("hgnetv2", "HGNetV2", architectures=tuple(f"hgnetv2_b{n}" for n in range(7))),
    Family("mit", "MiT"),
    Family(
        "mobilenet",
        "MobileNet",
        architectures=("mobilenetv3_small_050", "mobilenetv3_small_100", "mobilenetv3_large_100"),
    ),
    Family("mobilenetv5", "MobileNetV5", architectures=("mobilenetv5_300m",)),
    Family(
        "resnet",
        "ResNet",
        architectures=(
            *(f"resnet{n}" for n in (18, 26, 34, 50, 101, 152)),
            *(f"resnetv2_{n}" for n in (50, 101, 152)),
        ),
    ),
    Family("swin_transformer", "SwinTransformer", model_types=("swin",)),
    Family("vgg", "VGG", architectures=("vgg11", "vgg13", "vgg16", "vgg19")),
    Family(
        "vit",
        "ViT",
        model_types=("vit",),
        prefix="vit.",
        left_out=(("layer_norm_epsilon", "layer_norm_eps"),),
    ),
    Family("xception", "Xception"),
    _text(
        "albert",
        "Albert",
        "spiece.model",
        model_types=("albert",),
        prefix="albert.",
        optional=("pooled_dense",),
    ),
    _text(
        "bert",
        "Bert",
        "wordpiece",
        model_types=("bert",),
        left_out=(("dropout", "hidden_dropout_prob"), ("num_segments", "type_vocab_size")),
        optional=("pooled_dense",),
    ),
    _text("deberta_v3", "DebertaV3", "spm.model"),
    _text(
        "distil_bert",
        "DistilBert",
        "wordpiece",
        model_types=("distilbert",),
        prefix="distilbert.",
    ),
    _text("f_net", "FNet", "spiece.model"),
    _text("roberta", "Roberta", "bpe", model_types=("roberta",), prefix="roberta."),
    _text("roformer_v2", "RoformerV2", "wordpiece"),
    _text(
        "xlm_roberta",
        "XLMRoberta",
        "sentencepiece.bpe.model",
        model_types=("xlm-roberta",),
        left_out=(("dropout", "hidden_dropout_prob"),),
    ),
)


def family_of(backbone: Any) -> Family | None:
    """Returns the family of a backbone or backbone class, or None if it is not in the list."""
    cls = backbone if inspect.isclass(backbone) else type(backbone)
    return next((family for family in FAMILIES if family.backbone is cls), None)


def size_argument(backbone: Any, with_default: bool = False) -> str | None:
    """Returns the constructor argument that sets the input shape (EfficientNet differs).

    Args:
        backbone: KerasHub backbone class.
        with_default: Whether to return it only if it is optional, as in networks of any size.
    """
    parameters = inspect.signature(backbone.__init__).parameters
    name = "image_shape" if "image_shape" in parameters else "input_shape"
    if with_default and (
        name not in parameters or parameters[name].default is inspect.Parameter.empty
    ):
        return None
    return name
