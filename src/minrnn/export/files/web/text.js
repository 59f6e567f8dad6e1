import { breathe, json, load } from "./step.js";
import { Tokens } from "./tokens.js";

const at = (id) => document.getElementById(id);
const given = new URLSearchParams(location.search);
let stopped = false;

function say(text, wrong = false) {
  at("status").textContent = text;
  at("status").classList.toggle("wrong", wrong);
}

function choose(logits, temperature) {
  let best = 0, highest = -Infinity;
  for (let token = 0; token < logits.length; token++) {
    const noise = temperature > 0 ? -Math.log(-Math.log(Math.random())) : 0; // Gumbel's, whose maximum is a sample
    const value = temperature > 0 ? logits[token] / temperature + noise : logits[token];
    if (value > highest) [highest, best] = [value, token];
  }
  return best;
}

async function write(machine, tokens) {
  const prompt = at("prompt").value;
  const ids = tokens.encode(prompt);
  const quiet = document.createElement("span");
  quiet.className = "given";
  quiet.textContent = prompt;
  const text = document.createTextNode("");
  at("text").replaceChildren(quiet, text);
  machine.reset();
  let logits;
  for (const id of [...machine.model.beginning, ...ids]) logits = await machine.step([id]); // after a newline
  const decoder = new TextDecoder();
  const begin = performance.now();
  let drawn = begin, count = 0;
  for (const wanted = Number(at("tokens").value); count < wanted && !stopped; count++) {
    const token = choose(logits, Number(at("temperature").value));
    text.data += decoder.decode(tokens.tokens[token], { stream: true });
    logits = await machine.step([token]);
    if (performance.now() - drawn > 30) {
      say(`${count + 1} tokens`);
      await breathe();
      drawn = performance.now();
    }
  }
  text.data += decoder.decode();
  const seconds = (performance.now() - begin) / 1000;
  say(`${count} tokens` + (seconds > 0 ? `, ${(count / seconds).toFixed(0)} a second` : ""));
}

async function main() {
  const machine = await load();
  const tokens = new Tokens(await json("tokenizer.json"));
  at("about").textContent =
    `The model runs in this page. Of all it has read it keeps ${machine.size.toLocaleString("en")} numbers, ` +
    "however long the text gets.";
  const warmth = () => (at("warmth").textContent = Number(at("temperature").value).toFixed(2));
  at("temperature").addEventListener("input", warmth);
  at("stop").addEventListener("click", () => (stopped = true));
  const run = async (event) => {
    event?.preventDefault();
    stopped = false;
    at("write").disabled = true;
    at("stop").disabled = false;
    try {
      await write(machine, tokens);
    } catch (error) {
      say(error.message, true);
    }
    at("write").disabled = false;
    at("stop").disabled = true;
  };
  at("form").addEventListener("submit", run);
  at("write").disabled = false;
  for (const name of ["prompt", "tokens", "temperature"]) if (given.has(name)) at(name).value = given.get(name);
  warmth();
  if (given.has("prompt")) await run();
}

main().catch((error) => say(error.message, true));
