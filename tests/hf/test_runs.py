"""From a run folder to transformers and back, with nothing changed on the way; and learning there."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    DataCollatorForLanguageModeling,
    Trainer,
    TrainingArguments,
)

import minrnn
from minrnn.commands import main
from minrnn.errors import UserError
from minrnn.hf import from_run, to_run, write_card
from minrnn.training import generate, load_run, read, resume

KINDS = ["characters", "bytes", "bpe:300"]
every_kind = pytest.mark.parametrize("kind", KINDS)
Runs = Callable[..., Path]


@every_kind
def test_there_and_back(run: Runs, kind: str, tmp_path: Path) -> None:
    folder = run(kind)
    before = load_run(folder)
    model, tokenizer = from_run(folder)
    model.save_pretrained(tmp_path / "hub")
    tokenizer.save_pretrained(tmp_path / "hub")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "hub")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "hub")
    prompt = "12 sheep jumped\n\tover"
    ids = tokenizer(prompt, return_tensors="pt").input_ids
    expected = before.model(torch.tensor(before.tokenizer.encode(prompt)[None].tolist()))[0]
    assert torch.equal(model(ids).logits, expected)

    to_run(model, tokenizer, tmp_path / "run", data=before.config.data, context=16)
    after = load_run(tmp_path / "run")
    assert torch.equal(after.model(ids)[0], expected)
    assert after.tokenizer.to_json() == before.tokenizer.to_json()
    assert all(torch.equal(one, before.model.state_dict()[name]) for name, one in after.model.state_dict().items())


def test_the_commands_read_what_came_back(
    run: Runs, text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, back = run(), tmp_path / "back"
    to_run(*from_run(folder), back, data=str(text), context=16)
    assert {file.name for file in back.iterdir()} == {
        "config.json",
        "tokenizer.json",
        "model.safetensors",
        "last.safetensors",
    }
    for words in (
        ["generate", "--prompt", "7 sheep", "--tokens", "30"],
        ["evaluate", "--json"],
        ["score", "--text", "7 sheep jumped"],
    ):
        said = []
        for one in (folder, back):
            capsys.readouterr()
            assert main([words[0], str(one), *words[1:]]) == 0
            said.append(capsys.readouterr().out)
        assert said[0] == said[1] != ""
    assert minrnn.stream(back).push("7 sh") == minrnn.stream(folder).push("7 sh")
    assert resume(back, quiet=True).finished  # and does not begin anew, over the weights
    assert load_run(back).model is not None


@every_kind
def test_probabilities_are_those_of_score(run: Runs, kind: str) -> None:
    folder = run(kind)
    found = load_run(folder)
    model, tokenizer = from_run(folder)
    for text in ("7 sheep jumped over", "\n\n\twhile 49 foxes"):
        ids = torch.tensor([[model.config.bos_token_id, *tokenizer(text).input_ids]])
        chances = model(ids).logits.double().log_softmax(-1)[0, :-1].gather(-1, ids[0, 1:, None])[:, 0]
        expected = torch.tensor(read(found.model, found.tokenizer, text).log_probabilities)
        torch.testing.assert_close(chances, expected, rtol=1e-5, atol=1e-5)
        loss = model(ids, labels=ids).loss
        assert loss.item() == pytest.approx(-float(expected.mean()), rel=1e-5)


@every_kind
def test_the_likeliest_text_is_that_of_generate(run: Runs, kind: str) -> None:
    folder = run(kind)
    found = load_run(folder)
    model, tokenizer = from_run(folder)
    for prompt in ("", "7 sheep"):
        expected = "".join(pieces[0] for pieces in generate(found.model, found.tokenizer, prompt, 40, temperature=0))
        ids = torch.tensor([[model.config.bos_token_id, *tokenizer(prompt).input_ids]])
        written = model.generate(ids, max_new_tokens=40)
        assert tokenizer.decode(written[0, ids.shape[1] :]) == expected
    assert model.generate(max_new_tokens=40)[0, 0] == found.tokenizer.encode("\n")[0]


def test_without_a_newline_a_text_begins_after_the_first_character(run: Runs, tmp_path: Path) -> None:
    from minrnn.data import CharacterTokenizer
    from minrnn.hf import MinRNNConfig, MinRNNForCausalLM, to_transformers

    model = MinRNNForCausalLM(MinRNNConfig(vocab_size=3, width=8, pattern="mingru"))
    to_run(model, to_transformers(CharacterTokenizer("abc")), tmp_path / "run")
    assert from_run(tmp_path / "run")[0].config.bos_token_id == 0


def test_from_bfloat16(run: Runs, tmp_path: Path) -> None:
    model, tokenizer = from_run(run())
    to_run(model.bfloat16(), tokenizer, tmp_path / "run")
    weights = load_run(tmp_path / "run").model.state_dict()
    assert all(torch.equal(weights[name], one.float()) for name, one in model.model.state_dict().items())


def test_what_cannot_be_a_run_is_refused_and_nothing_touched(run: Runs, tmp_path: Path) -> None:
    folder = run()
    model, tokenizer = from_run(folder)
    before = {file.name: file.read_bytes() for file in folder.iterdir()}
    with pytest.raises(UserError, match="holds a run already"):
        to_run(model, tokenizer, folder)
    with pytest.raises(UserError, match=r"tokens and its tokenizer 256"):
        to_run(model, from_run(run("bytes"))[1], folder, overwrite=True)
    model.resize_token_embeddings(len(tokenizer))
    V = len(tokenizer) - 1
    with pytest.raises(UserError, match=rf"model.resize_token_embeddings\({V}\)"):
        to_run(model, tokenizer, folder, overwrite=True)
    with pytest.raises(UserError, match="is a run folder"):
        model.save_pretrained(folder)
    for load in (type(model).from_pretrained, lambda path: type(model).from_pretrained(str(path))):
        with pytest.raises(UserError, match=r"load it with minrnn\.hf\.from_run"):
            load(folder)
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == before
    with pytest.raises(UserError, match="no run folder"):
        from_run(tmp_path / "none")


def test_overwrite(run: Runs, tmp_path: Path) -> None:
    to_run(*from_run(run()), tmp_path / "run")
    to_run(*from_run(run("bytes")), tmp_path / "run", overwrite=True)
    assert load_run(tmp_path / "run").tokenizer.kind == "bytes"


def test_the_card_has_the_figures_of_the_run(run: Runs, tmp_path: Path) -> None:
    folder, hub = run(), tmp_path / "sheep"
    model, _ = from_run(folder)
    model.save_pretrained(hub)
    write_card(folder, hub)
    card = (hub / "README.md").read_text()
    last: dict[str, Any] = json.loads((folder / "metrics.jsonl").read_text().splitlines()[-1])
    assert card.startswith("---\nlibrary_name: minrnn\npipeline_tag: text-generation\ntags:\n- minrnn\n")
    for figure in (
        f"| parameters | {sum(one.numel() for one in model.parameters()):,} |",
        f"{last['best_nats_per_token']:.4f} nats per token, {last['best_bits_per_character']:.4f} bits per character",
        f"update {last['best_step']}, ",
        "| text | sheep.txt |",
        "24 of 64 tokens each",
        'from_pretrained("sheep")',
        "`mingru minlstm`, width 24",
        "- mingru\n- minlstm\n---",
    ):
        assert figure in card
    assert str(tmp_path.parent) not in card
    to_run(*from_run(folder), tmp_path / "bare")
    write_card(tmp_path / "bare", hub)
    assert "nats" not in (hub / "README.md").read_text()  # a figure that the run does not have is not there
    with pytest.raises(UserError, match="cannot write"):
        write_card(folder, tmp_path / "none")


@pytest.mark.parametrize("side", ["left", "right"])
def test_learning_with_trainer(run: Runs, side: str, tmp_path: Path) -> None:
    model, tokenizer = from_run(run())
    tokenizer.padding_side = side
    lines = [f"\n{number} sheep jumped over the fence," for number in range(0, 90, 3)]
    rows = [{"input_ids": tokenizer(line).input_ids} for line in lines]

    def surprise() -> float:
        model.eval()
        with torch.no_grad():
            return sum(float(model(one := torch.tensor([row["input_ids"]]), labels=one).loss) for row in rows)

    before = surprise()
    arguments = TrainingArguments(
        output_dir=str(tmp_path / "checkpoints"),
        max_steps=20,
        per_device_train_batch_size=8,
        learning_rate=1e-2,
        logging_steps=5,
        save_steps=20,
        eval_strategy="steps",
        eval_steps=10,
        report_to=[],
        disable_tqdm=True,
        use_cpu=True,
        seed=0,
        dataloader_pin_memory=False,
    )
    trainer = Trainer(
        model=model,
        args=arguments,
        train_dataset=rows,
        eval_dataset=rows[:8],
        data_collator=DataCollatorForLanguageModeling(tokenizer, mlm=False),
        processing_class=tokenizer,
    )
    trainer.train()
    losses = [line["loss"] for line in trainer.state.log_history if "loss" in line]
    held_out = [line["eval_loss"] for line in trainer.state.log_history if "eval_loss" in line]
    assert losses[-1] < 0.8 * losses[0] and held_out[1] < held_out[0]
    assert surprise() < 0.6 * before
    predicted = trainer.predict(rows[:8]).predictions  # (8, T, V), without the states
    assert predicted.shape[::2] == (8, model.config.vocab_size)

    again = AutoModelForCausalLM.from_pretrained(tmp_path / "checkpoints" / "checkpoint-20")
    x = torch.tensor([rows[0]["input_ids"]])
    assert torch.equal(again(x).logits, model(x).logits)
    to_run(again, tokenizer, tmp_path / "run")
    assert torch.equal(load_run(tmp_path / "run").model(x)[0], model(x).logits)
