"""Writes tiny Hugging Face and timm directories by hand, in the names and layouts of those tools."""

import numpy as np

from tests.helpers.torch_tensors import (
    array,
    batch_norm,
    convolution,
    encoder_block,
    linear,
    norm,
    shake,
    write,
)

WORDS = [
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "[MASK]",
    "the",
    "cat",
    "sat",
    "##s",
    "cafe",
    "中",
    ".",
]


def bert(directory, prefix="bert.", **settings):
    """Returns (directory, backbone): one block of 8, 2 heads, 16 positions, with a head on top."""
    import keras_hub

    backbone = shake(keras_hub.models.BertBackbone(12, 1, 2, 8, 16, max_sequence_length=16))
    layer = backbone.get_layer
    embeddings = "embeddings"
    tensors = {
        f"{embeddings}.word_embeddings.weight": array(layer("token_embedding").embeddings),
        f"{embeddings}.position_embeddings.weight": array(
            layer("position_embedding").position_embeddings
        ),
        f"{embeddings}.token_type_embeddings.weight": array(layer("segment_embedding").embeddings),
        **norm(layer("embeddings_layer_norm"), f"{embeddings}.LayerNorm"),
        **encoder_block(layer("transformer_layer_0"), "encoder.layer.0", 8, 16),
        **linear(layer("pooled_dense"), "pooler.dense", 8),
    }
    tensors = {prefix + name: value for name, value in tensors.items()}
    tensors["classifier.weight"] = np.ones((7, 8), "float32")
    config = {
        "model_type": "bert",
        "architectures": ["BertForSequenceClassification"],
        "vocab_size": 12,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "hidden_size": 8,
        "intermediate_size": 16,
        "max_position_embeddings": 16,
        "type_vocab_size": 2,
        "hidden_act": "gelu",
        "hidden_dropout_prob": 0.25,
    }
    tokenizer = {"do_lower_case": True, "strip_accents": None, "model_max_length": 10**30}
    files = {"vocab.txt": "\n".join(WORDS) + "\n", "tokenizer_config.json": tokenizer}
    return write(directory, {**config, **settings}, tensors, **files), backbone


def distilbert(directory, prefix="distilbert."):
    import keras_hub

    backbone = shake(keras_hub.models.DistilBertBackbone(12, 1, 2, 8, 16, max_sequence_length=16))
    both = backbone.get_layer("token_and_position_embedding")
    block = backbone.transformer_layers[0]
    attention, name = block._self_attention_layer, "transformer.layer.0"
    tensors = {
        "embeddings.word_embeddings.weight": array(both.token_embedding.embeddings),
        "embeddings.position_embeddings.weight": array(both.position_embedding.position_embeddings),
        **norm(backbone.embeddings_layer_norm, "embeddings.LayerNorm"),
        **linear(attention.query_dense, f"{name}.attention.q_lin", 8),
        **linear(attention.key_dense, f"{name}.attention.k_lin", 8),
        **linear(attention.value_dense, f"{name}.attention.v_lin", 8),
        **linear(attention.output_dense, f"{name}.attention.out_lin", 8),
        **norm(block._self_attention_layer_norm, f"{name}.sa_layer_norm"),
        **linear(block._feedforward_intermediate_dense, f"{name}.ffn.lin1", 8),
        **linear(block._feedforward_output_dense, f"{name}.ffn.lin2", 16),
        **norm(block._feedforward_layer_norm, f"{name}.output_layer_norm"),
    }
    config = {
        "model_type": "distilbert",
        "vocab_size": 12,
        "n_layers": 1,
        "n_heads": 2,
        "dim": 8,
        "hidden_dim": 16,
        "dropout": 0.1,
        "max_position_embeddings": 16,
        "activation": "gelu",
    }
    tokenizer = {
        "normalizer": {"type": "BertNormalizer", "lowercase": False, "strip_accents": None},
        "model": {"type": "WordPiece", "vocab": {word: n for n, word in enumerate(WORDS)}},
    }
    tensors = {prefix + name: value for name, value in tensors.items()}
    return write(directory, config, tensors, **{"tokenizer.json": tokenizer}), backbone


def _roberta_tensors(prefix, words, positions, embeddings_norm, block):
    """Returns the tensors of RoBERTa or XLM-RoBERTa; each token type is 0.5, which is added to positions."""
    positions = array(positions.position_embeddings) - 0.5
    unused = np.zeros((2, 8))
    tensors = {
        "embeddings.word_embeddings.weight": array(words.embeddings),
        "embeddings.position_embeddings.weight": np.concatenate([unused, positions]),
        "embeddings.token_type_embeddings.weight": np.full((1, 8), 0.5),
        **norm(embeddings_norm, "embeddings.LayerNorm"),
        **encoder_block(block, "encoder.layer.0", 8, 16),
    }
    return {prefix + name: value.astype("float32") for name, value in tensors.items()}


def _roberta_config(model_type, vocab_size):
    return {
        "model_type": model_type,
        "vocab_size": vocab_size,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "hidden_size": 8,
        "intermediate_size": 16,
        "max_position_embeddings": 18,
        "hidden_dropout_prob": 0.1,
    }


def roberta(directory, prefix="roberta."):
    """Returns (directory, backbone) of one block of 8, with a byte-pair vocabulary."""
    import keras_hub

    backbone = shake(keras_hub.models.RobertaBackbone(10, 1, 2, 8, 16, max_sequence_length=16))
    tensors = _roberta_tensors(
        prefix,
        backbone.token_embedding,
        backbone.embeddings.position_embedding,
        backbone.embeddings_layer_norm,
        backbone.transformer_layers[0],
    )
    tokens = ["<s>", "<pad>", "</s>", "<unk>", "a", "b", "ab", "Ġ", "Ġab", "<mask>"]
    vocabulary = {token: number for number, token in enumerate(tokens)}
    files = {"vocab.json": vocabulary, "merges.txt": "#version: 0.2\na b\nĠ ab\n"}
    return write(directory, _roberta_config("roberta", 10), tensors, **files), backbone


PROCESSOR = {
    "size": {"height": 16, "width": 16},
    "image_mean": [0.1, 0.2, 0.3],
    "image_std": [0.5, 0.6, 0.7],
    "resample": 3,
}


def vit(directory, prefix="vit."):
    import keras_hub

    backbone = shake(keras_hub.models.ViTBackbone((16, 16, 3), 8, 1, 2, 8, 12))
    patching, encoder = backbone.layers[1], backbone.layers[2]
    block, name = encoder.encoder_layers[0], "encoder.layer.0"
    tensors = {
        "embeddings.cls_token": array(patching.class_token),
        "embeddings.position_embeddings": array(patching.position_embedding.embeddings)[None],
        **convolution(patching.patch_embedding, "embeddings.patch_embeddings.projection", True),
        **linear(block.mha.query_dense, f"{name}.attention.attention.query", 8),
        **linear(block.mha.key_dense, f"{name}.attention.attention.key", 8),
        **linear(block.mha.value_dense, f"{name}.attention.attention.value", 8),
        **linear(block.mha.output_dense, f"{name}.attention.output.dense", 8),
        **norm(block.layer_norm_1, f"{name}.layernorm_before"),
        **norm(block.layer_norm_2, f"{name}.layernorm_after"),
        **linear(block.mlp.dense_1, f"{name}.intermediate.dense", 8),
        **linear(block.mlp.dense_2, f"{name}.output.dense", 12),
        **norm(encoder.layer_norm, "layernorm"),
    }
    config = {
        "model_type": "vit",
        "image_size": 16,
        "patch_size": 8,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "hidden_size": 8,
        "intermediate_size": 12,
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
        "qkv_bias": True,
        "layer_norm_eps": 1e-12,
        "hidden_act": "gelu",
        "id2label": {str(n): str(n) for n in range(7)},
    }
    tensors = {prefix + name: value for name, value in tensors.items()}
    tensors["classifier.weight"] = np.ones((7, 8), "float32")
    return write(directory, config, tensors, **{"preprocessor_config.json": PROCESSOR}), backbone


def resnet18(directory, **settings):
    import keras_hub

    backbone = keras_hub.models.ResNetBackbone(
        [64], [7], [64, 128, 256, 512], [2, 2, 2, 2], [1, 2, 2, 2], "basic_block"
    )
    layer = shake(backbone).get_layer
    tensors = convolution(layer("conv1_conv"), "conv1") | batch_norm(layer("conv1_bn"), "bn1")
    for stack in range(4):
        for block in range(2):
            ours, theirs = f"stack{stack}_block{block}", f"layer{stack + 1}.{block}"
            for number in (1, 2):
                tensors |= convolution(layer(f"{ours}_{number}_conv"), f"{theirs}.conv{number}")
                tensors |= batch_norm(layer(f"{ours}_{number}_bn"), f"{theirs}.bn{number}")
            if block == 0 and stack > 0:
                tensors |= convolution(layer(f"{ours}_0_conv"), f"{theirs}.downsample.0")
                tensors |= batch_norm(layer(f"{ours}_0_bn"), f"{theirs}.downsample.1")
    tensors["fc.weight"] = np.ones((7, 512), "float32")
    cfg = {
        "input_size": [3, 32, 32],
        "mean": [0.485, 0.456, 0.406],
        "std": [0.229, 0.224, 0.225],
        "interpolation": "bicubic",
        "crop_pct": 0.95,
    }
    config = {"architecture": "resnet18", "num_classes": 7, "pretrained_cfg": cfg, **settings}
    return write(directory, config, tensors), backbone


def vgg11(directory):
    import keras_hub

    backbone = keras_hub.models.VGGBackbone([1, 1, 2, 2, 2], [64, 128, 256, 512, 512])
    layer = shake(backbone).get_layer
    names = ["block1_conv1", "block2_conv1", "block3_conv1", "block3_conv2"]
    names += [f"block{block}_conv{n}" for block in (4, 5) for n in (1, 2)]
    # In torchvision's list of layers: convolution and ReLU are two, a pooling is one.
    places = [0, 3, 6, 8, 11, 13, 16, 18]
    tensors = {}
    for name, place in zip(names, places, strict=True):
        tensors |= convolution(layer(name), f"features.{place}", True)
    return write(directory, {"architecture": "vgg11"}, tensors), backbone


def sentencepiece():
    """Returns the bytes of a SentencePiece model that has BERT's special tokens."""
    import io

    import sentencepiece

    made = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(["the cat sat", "the cats"]),
        model_writer=made,
        vocab_size=19,
        model_type="WORD",
        pad_id=0,
        unk_id=1,
        bos_id=2,
        eos_id=3,
        pad_piece="<pad>",
        unk_piece="<unk>",
        bos_piece="[CLS]",
        eos_piece="[SEP]",
        user_defined_symbols=["[MASK]", "[PAD]"],
        hard_vocab_limit=False,
        minloglevel=2,
    )
    return made.getvalue()


def xlm_roberta(directory, prefix="roberta."):
    """Returns (directory, backbone) of one block of 8, with a SentencePiece model."""
    import keras_hub

    backbone = shake(keras_hub.models.XLMRobertaBackbone(40, 1, 2, 8, 16, max_sequence_length=16))
    layer = backbone.get_layer
    tensors = _roberta_tensors(
        prefix,
        backbone.token_embedding,
        backbone.embeddings.position_embedding,
        layer("embeddings_layer_norm"),
        layer("transformer_layer_0"),
    )
    write(directory, _roberta_config("xlm-roberta", 40), tensors)
    (directory / "sentencepiece.bpe.model").write_bytes(sentencepiece())
    return directory, backbone


def albert(directory, prefix="albert."):
    import keras_hub

    backbone = shake(keras_hub.models.AlbertBackbone(40, 2, 2, 4, 8, 16, max_sequence_length=16))
    block = backbone.get_layer("group_0_inner_layer_0")
    attention = block._self_attention_layer
    name = "encoder.albert_layer_groups.0.albert_layers.0"
    layer = backbone.get_layer
    tensors = {
        "embeddings.word_embeddings.weight": array(backbone.token_embedding.embeddings),
        "embeddings.position_embeddings.weight": array(
            layer("position_embedding").position_embeddings
        ),
        "embeddings.token_type_embeddings.weight": array(layer("segment_embedding").embeddings),
        **norm(layer("embeddings_layer_norm"), "embeddings.LayerNorm"),
        **linear(layer("embedding_projection"), "encoder.embedding_hidden_mapping_in", 4),
        **linear(attention.query_dense, f"{name}.attention.query", 8),
        **linear(attention.key_dense, f"{name}.attention.key", 8),
        **linear(attention.value_dense, f"{name}.attention.value", 8),
        **linear(attention.output_dense, f"{name}.attention.dense", 8),
        **norm(block._self_attention_layer_norm, f"{name}.attention.LayerNorm"),
        **linear(block._feedforward_intermediate_dense, f"{name}.ffn", 8),
        **linear(block._feedforward_output_dense, f"{name}.ffn_output", 16),
        **norm(block._feedforward_layer_norm, f"{name}.full_layer_layer_norm"),
        **linear(layer("pooled_dense"), "pooler", 8),
    }
    config = {
        "model_type": "albert",
        "vocab_size": 40,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "embedding_size": 4,
        "hidden_size": 8,
        "intermediate_size": 16,
        "num_hidden_groups": 1,
        "inner_group_num": 1,
        "attention_probs_dropout_prob": 0,
        "max_position_embeddings": 16,
        "type_vocab_size": 2,
        "hidden_act": "gelu_new",
    }
    tensors = {prefix + name: value for name, value in tensors.items()}
    write(directory, config, tensors)
    (directory / "spiece.model").write_bytes(sentencepiece())
    return directory, backbone
