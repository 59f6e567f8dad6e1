"""The model answers in transformers as it does alone: in loss, padding, beams, streams and from a state."""

import importlib
import json
import sys
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.utils._pytree import tree_leaves
from transformers import AutoConfig, AutoModelForCausalLM, TextIteratorStreamer, TextStreamer, pipeline

from minrnn.data import CharacterTokenizer
from minrnn.errors import UserError
from minrnn.hf import MinRNNConfig, MinRNNForCausalLM, to_transformers
from minrnn.mixers import names

V = 20
PATTERNS = ["mingru minlstm", "slstm mlstm", "mamba", "attention:heads=2 qrnn", "mingru attention:heads=2,window=3"]
every_pattern = pytest.mark.parametrize("pattern", PATTERNS)


def make(pattern: str = "mingru minlstm", **options: Any) -> MinRNNForCausalLM:
    torch.manual_seed(0)
    model = MinRNNForCausalLM(MinRNNConfig(vocab_size=V, width=16, pattern=pattern, bos_token_id=3, **options)).eval()
    with torch.no_grad():
        for parameter in model.parameters():  # away from zero, where little depends on the past
            parameter += 0.2 * torch.randn_like(parameter)
    return model


def tokens(*shape: int, seed: int = 1) -> Tensor:
    return torch.randint(V, shape, generator=torch.Generator().manual_seed(seed))


def padded(texts: list[Tensor], side: str) -> dict[str, Tensor]:
    """Texts (T,) as a batch."""
    longest = max(map(len, texts))
    batch, mask = torch.full((len(texts), longest), V), torch.zeros(len(texts), longest, dtype=torch.int64)
    for row, text in enumerate(texts):
        at = slice(longest - len(text), None) if side == "left" else slice(0, len(text))
        batch[row, at], mask[row, at] = text, 1
    return {"input_ids": batch, "attention_mask": mask}


TEXTS = [tokens(9), tokens(1, seed=2), tokens(5, seed=3)]


@pytest.mark.parametrize("mixer", names())
def test_every_mixer_is_saved_and_loaded(mixer: str, tmp_path: Path) -> None:
    model = make(mixer, expansion=None)
    model.save_pretrained(tmp_path)
    assert {name for name in load_file(tmp_path / "model.safetensors") if not name.startswith("model.")} == set()
    again = AutoModelForCausalLM.from_pretrained(tmp_path)
    x = tokens(2, 11)
    assert type(again) is MinRNNForCausalLM and not again.training
    assert torch.equal(again(x).logits, model.model(x)[0])


def test_a_fresh_model_is_a_fresh_language_model() -> None:
    torch.manual_seed(5)
    model = MinRNNForCausalLM(MinRNNConfig(vocab_size=V, width=16, pattern="mingru mamba"))
    torch.manual_seed(5)
    expected = type(model.model)(model.config.architecture()).state_dict()
    assert all(torch.equal(one, expected[name]) for name, one in model.model.state_dict().items())


def test_what_the_config_is_called(tmp_path: Path) -> None:
    config = MinRNNConfig(vocab_size=V, width=16, pattern="(mingru minlstm)*2", expansion=1.5, conv=0, mlp=2.0)
    config.save_pretrained(tmp_path)
    again = AutoConfig.from_pretrained(tmp_path)
    assert type(again) is MinRNNConfig and again.architecture() == config.architecture()
    assert (again.hidden_size, again.num_hidden_layers, again.vocab_size) == (16, 4, V)
    with pytest.raises(ValueError, match="width is 0"):
        MinRNNForCausalLM(MinRNNConfig(width=0))
    with pytest.raises(ValueError, match="mingro"):
        MinRNNForCausalLM(MinRNNConfig(pattern="mingro"))


def test_outputs() -> None:
    model, x = make(), tokens(2, 7)
    output = model(x, labels=x, output_hidden_states=True)
    logits, state = model.model(x)
    assert torch.equal(output.logits, logits)
    for one, expected in zip(tree_leaves(output.state), tree_leaves(state), strict=True):
        assert torch.equal(one, expected)
    expected_loss = F.cross_entropy(logits[:, :-1].flatten(0, 1), x[:, 1:].flatten())
    torch.testing.assert_close(output.loss, expected_loss)
    assert torch.equal(output.hidden_states[0], model.model.embedding(x))
    assert torch.equal(model.model.head(output.hidden_states[-1]), logits)
    assert len(output.hidden_states) == model.config.num_hidden_layers + 1
    assert torch.equal(model(x, logits_to_keep=2).logits, model.model.head(output.hidden_states[-1][:, -2:]))
    assert torch.equal(model(x, logits_to_keep=torch.tensor([0, 3])).logits, logits[:, [0, 3]])
    assert torch.equal(model(x, return_dict=False)[0], logits)
    assert model.train()(x).state is None and model(x, use_cache=True).state is not None


@every_pattern
@pytest.mark.parametrize("conv", [0, 4])
@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_changes_nothing(pattern: str, conv: int, side: str) -> None:
    model = make(pattern, conv=conv)
    batch = padded(TEXTS, side)
    with torch.no_grad():
        logits = model(**batch).logits
        by_id = model(batch["input_ids"]).logits  # V stands for padding without a mask too
        foreign = model(batch["input_ids"].masked_fill(batch["attention_mask"] == 0, 7), batch["attention_mask"]).logits
        for row, text in enumerate(TEXTS):
            expected = model.model(text[None])[0][0]
            for found in (logits, by_id, foreign):
                torch.testing.assert_close(
                    found[row][batch["attention_mask"][row] == 1], expected, rtol=1e-4, atol=1e-5
                )


@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_changes_neither_loss_nor_gradient(side: str) -> None:
    model = make().double()
    batch = padded(TEXTS, side)
    for labels in (batch["input_ids"], batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)):
        model.zero_grad()
        loss = model(**batch, labels=labels).loss
        loss.backward()
        found = [parameter.grad.clone() for parameter in model.parameters() if parameter.grad is not None]
        model.zero_grad()
        parts = [(model(text[None], labels=text[None]).loss, len(text) - 1) for text in TEXTS if len(text) > 1]
        expected = sum(one * weight for one, weight in parts) / sum(weight for _, weight in parts)
        assert isinstance(expected, Tensor)
        expected.backward()
        torch.testing.assert_close(loss, expected)
        for one, parameter in zip(found, model.parameters(), strict=True):
            torch.testing.assert_close(one, parameter.grad)


@every_pattern
def test_greedy_text_of_a_padded_batch(pattern: str) -> None:
    model = make(pattern)
    batch = padded(TEXTS, "left")
    found = model.generate(**batch, max_new_tokens=12)
    for row, text in enumerate(TEXTS):
        ids = text[None]
        for _ in range(12):  # by reading everything again
            ids = torch.cat([ids, model.model(ids)[0][:, -1:].argmax(-1)], dim=1)
        assert found[row, batch["input_ids"].shape[1] :].tolist() == ids[0, len(text) :].tolist()
        assert model.generate(text[None], max_new_tokens=12).tolist() == ids.tolist()


def test_padding_that_cannot_be_is_refused() -> None:
    model = make()
    with pytest.raises(UserError, match=r"padding in row 1.*padding_side = 'left'"):
        model.generate(**padded(TEXTS, "right"), max_new_tokens=2)
    state = model(tokens(3, 4)).state
    with pytest.raises(UserError, match="a state to go on from"):
        model.generate(**padded(TEXTS, "left"), state=state, max_new_tokens=2)
    with pytest.raises(ValueError, match=r"attention_mask has shape \(2, 3\); expected that of input_ids.*\(2, 4\)"):
        model(tokens(2, 4), torch.ones(2, 3))
    with pytest.raises(ValueError, match="expected 0 <= token < V = 20"):
        model(torch.tensor([[V + 1]]))


@every_pattern
@pytest.mark.parametrize("sample", [False, True])
def test_beams_take_their_states_with_them(pattern: str, sample: bool) -> None:
    model = make(pattern, conv=0 if pattern == "mamba" else 4)
    batch = padded(TEXTS, "left")
    found = []
    for cache in (True, False):  # without, everything is read again
        torch.manual_seed(0)
        found.append(
            model.generate(
                **batch,
                max_new_tokens=10,
                num_beams=4,
                num_return_sequences=2,
                do_sample=sample,
                use_cache=cache,
                output_scores=True,
                return_dict_in_generate=True,
            )
        )
    assert torch.equal(found[0].sequences, found[1].sequences)
    torch.testing.assert_close(found[0].sequences_scores, found[1].sequences_scores, rtol=1e-4, atol=1e-4)
    assert (found[0].beam_indices[:, 1:] != found[0].beam_indices[:, :1]).any()  # some were exchanged


def test_a_step_reads_one_token_and_the_state_keeps_its_size() -> None:
    model = make()
    read, sizes = [], []

    def note(_: Any, inputs: Any, output: Any) -> None:
        read.append(inputs[0].shape[1])
        sizes.append(sum(one.untyped_storage().nbytes() for one in tree_leaves(output[1])))

    model.model.stack.register_forward_hook(note)
    model.generate(tokens(2, 7), max_new_tokens=200, do_sample=True)
    assert read == [7] + [1] * 199
    assert set(sizes[1:]) == {sizes[1]} and sizes[0] <= 2 * sizes[1]


def test_without_a_prompt_a_text_begins_after_the_first_token() -> None:
    model = make()
    assert torch.equal(
        model.generate(max_new_tokens=6), model.generate(torch.tensor([[model.config.bos_token_id]]), max_new_tokens=6)
    )


@every_pattern
def test_going_on_from_a_state(pattern: str) -> None:
    model, x = make(pattern), tokens(2, 9)
    expected = model.generate(x, max_new_tokens=8)
    state = model(x[:, :5]).state
    assert torch.equal(model.generate(x[:, 5:], state=state, max_new_tokens=8), expected[:, 5:])
    assert torch.equal(model.generate(x[:, 5:], state=state, max_new_tokens=8), expected[:, 5:])  # it is not used up
    first = model.generate(x, max_new_tokens=4, return_dict_in_generate=True)
    more = model.generate(first.sequences[:, -1:], state=first.cache, max_new_tokens=4)
    assert torch.equal(torch.cat([first.sequences, more[:, 1:]], dim=1), expected)


def test_rows_that_end_are_padded_and_harm_no_others() -> None:
    model = make()
    free = model.generate(padded(TEXTS, "left")["input_ids"], max_new_tokens=12)
    end = int(free[0, 11])
    found = model.generate(**padded(TEXTS, "left"), max_new_tokens=12, eos_token_id=end)
    for row, expected in zip(found.tolist(), free.tolist(), strict=True):
        after = 9 + expected[9:].index(end) + 1 if end in expected[9:] else len(row)
        assert row[:after] == expected[:after]
        assert set(row[after:]) <= {V}


ALPHABET = "abcdefghij klmnop.,\n"
assert len(ALPHABET) == V


def test_streams() -> None:
    model, tokenizer = make(), to_transformers(CharacterTokenizer(ALPHABET))
    prompt = tokenizer("\nab", return_tensors="pt")
    options = {"max_new_tokens": 30, "do_sample": True}
    torch.manual_seed(0)
    text = tokenizer.decode(model.generate(**prompt, **options)[0])

    streamer = TextIteratorStreamer(tokenizer, timeout=30)

    def work() -> None:
        torch.manual_seed(0)
        model.generate(**prompt, **options, streamer=streamer)

    thread = Thread(target=work)
    thread.start()
    pieces = list(streamer)
    thread.join()
    assert "".join(pieces) == text and len(pieces) > 2


def test_a_stream_on_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    model, tokenizer = make(), to_transformers(CharacterTokenizer(ALPHABET))
    prompt = tokenizer("\nab", return_tensors="pt")
    ids = model.generate(**prompt, max_new_tokens=30, streamer=TextStreamer(tokenizer, skip_prompt=True))
    assert capsys.readouterr().out == tokenizer.decode(ids[0, 3:]) + "\n"


def test_pipeline(caplog: pytest.LogCaptureFixture) -> None:
    model, tokenizer = make(), to_transformers(CharacterTokenizer(ALPHABET))
    write = pipeline("text-generation", model=model, tokenizer=tokenizer)
    found = write(["\nab", "\nfed cab"], batch_size=2, max_new_tokens=9, do_sample=False)
    for prompt, one in zip(["\nab", "\nfed cab"], found, strict=True):
        ids = model.generate(**tokenizer(prompt, return_tensors="pt"), max_new_tokens=9)
        assert one[0]["generated_text"] == tokenizer.decode(ids[0])
    assert "not supported" not in caplog.text


def test_more_tokens_and_fewer(tmp_path: Path) -> None:
    model, x = make(), tokens(2, 7)
    before = model(x).logits
    model.resize_token_embeddings(V + 3)
    assert torch.equal(model(x).logits[..., :V], before)
    new = torch.tensor([[V + 2, 1]])
    assert model(new, labels=new).logits.shape == (1, 2, V + 3)
    model.save_pretrained(tmp_path)
    again = MinRNNForCausalLM.from_pretrained(tmp_path)
    assert torch.equal(again(new).logits, model(new).logits)
    again.resize_token_embeddings(V)
    assert torch.equal(again(x).logits, before)
    assert again.model.config == make().model.config


def test_bfloat16(tmp_path: Path) -> None:
    model, x = make(), tokens(2, 7)
    model.save_pretrained(tmp_path)
    again = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.bfloat16)
    assert torch.equal(again(x).logits, model.bfloat16()(x).logits)
    assert again.generate(x, max_new_tokens=3).shape == (2, 10)


def test_what_does_not_work_is_said() -> None:
    model = make()
    with pytest.raises(ValueError, match="does not support activation checkpointing"):
        model.activation_checkpointing_enable()
    with pytest.raises(ValueError, match="assisted generation is not supported"):
        model.generate(tokens(1, 3), assistant_model=make(), max_new_tokens=2)
    with pytest.raises(ValueError, match=r"not used by the model: \['tempratur'\]"):
        model.generate(tokens(1, 3), tempratur=0.5, max_new_tokens=2)


def test_without_transformers_the_mend_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "minrnn.hf")
    with monkeypatch.context() as old, pytest.raises(ImportError, match=r"pip install --upgrade 'minrnn\[hf\]'"):
        old.setattr("importlib.metadata.version", lambda _: "5.23.9")
        importlib.import_module("minrnn.hf")
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ImportError, match=r"needs transformers 5\.24 or newer"):
        importlib.import_module("minrnn.hf")


def test_weights_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    make().save_pretrained(tmp_path)
    file = tmp_path / "model.safetensors"
    weights = load_file(file)
    save_file({name: one for name, one in weights.items() if name != "model.norm.weight"}, file, {"format": "pt"})
    with pytest.raises(UserError, match=r"lacks 'model.norm.weight'"):
        MinRNNForCausalLM.from_pretrained(tmp_path)
    save_file(weights | {"model.extra": torch.zeros(1)}, file, {"format": "pt"})
    with pytest.raises(UserError, match=r"also has 'model.extra'"):
        AutoModelForCausalLM.from_pretrained(tmp_path)
    save_file(weights, file, {"format": "pt"})
    model, info = MinRNNForCausalLM.from_pretrained(tmp_path, output_loading_info=True)
    assert isinstance(model, MinRNNForCausalLM) and not info["missing_keys"]
    (tmp_path / "config.json").write_text(
        json.dumps(json.loads((tmp_path / "config.json").read_text()) | {"width": 17})
    )
    with pytest.raises((UserError, RuntimeError), match="size"):
        MinRNNForCausalLM.from_pretrained(tmp_path)
