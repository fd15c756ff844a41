"""What the scripts that ask a tokenizer for ids share: their hash, and a GGUF that holds nothing but a vocabulary."""


def fnv1a64(ids):
    """Of 32-bit ids, little-endian: as tests/formats hashes them."""
    value = 0xCBF29CE484222325
    for identity in ids:
        for byte in (identity & 0xFFFFFFFF).to_bytes(4, "little"):
            value = (value ^ byte) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    return f"{value:016x}"


def vocabulary_gguf(path, model, pre="default"):
    """A writer whose sizes are made up; finish() it when the tokenizer's keys are added."""
    import gguf

    out = gguf.GGUFWriter(path, "llama")
    for add in (out.add_context_length, out.add_embedding_length, out.add_feed_forward_length, out.add_head_count):
        add(64)
    out.add_block_count(1)
    out.add_layer_norm_rms_eps(1e-5)
    out.add_tokenizer_model(model)
    out.add_tokenizer_pre(pre)
    return out


def finish(out):
    out.write_header_to_file()
    out.write_kv_data_to_file()
    out.close()
