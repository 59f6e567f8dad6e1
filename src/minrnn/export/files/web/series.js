import { breathe, json, load } from "./step.js";

const at = (id) => document.getElementById(id);
const COLOURS = 8;
const ofClass = (number) => `var(--c${number % COLOURS})`;
const ofChannel = (number) => `var(--c${COLOURS - 1 - (number % COLOURS)})`;
let stopped = false;

function say(text, wrong = false) {
  at("status").textContent = text;
  at("status").classList.toggle("wrong", wrong);
}

// Lines of numbers; a first line of words names the channels.
function parse(text, channels) {
  const rows = text.split(/\r?\n/).filter((line) => line.trim());
  const cells = rows.map((line) => line.split(/[,;\t]/).map((cell) => cell.trim()));
  const number = (cell) => (/^(nan|na|)$/i.test(cell) ? NaN : Number(cell));
  const words = (row) => row.every((cell) => cell && !/^(nan|na)$/i.test(cell) && Number.isNaN(Number(cell)));
  if (cells.length && words(cells[0])) cells.shift();
  if (!cells.length) throw new Error("There are no steps.");
  return cells.map((row, line) => {
    const values = row.map(number);
    const wrong = row.find((cell, index) => Number.isNaN(values[index]) && !/^(nan|na|)$/i.test(cell));
    if (wrong !== undefined) throw new Error(`Step ${line + 1} has ${JSON.stringify(wrong)}, which is no number.`);
    if (values.length !== channels) throw new Error(`Step ${line + 1} has ${values.length} values; the model reads ${channels}.`);
    if (values.some((value) => Math.abs(value) === Infinity)) throw new Error(`Step ${line + 1} is not finite.`);
    return values;
  });
}

// One line for each column of `rows`, over `steps` places; a gap where a value is missing.
function draw(svg, rows, steps, [low, high], colour) {
  const place = (step) => (steps > 1 ? (600 * step) / (steps - 1) : 300);
  const height = (value) => 145 - (140 * (value - low)) / (high - low || 1);
  const lines = [];
  for (let column = 0; column < rows[0].length; column++) {
    let points = [];
    const end = () => {
      if (points.length === 1) points.push(points[0]);
      if (points.length) lines.push(`<polyline stroke="${colour(column)}" points="${points.join(" ")}"/>`);
      points = [];
    };
    rows.forEach((row, step) => {
      if (Number.isNaN(row[column])) end();
      else points.push(`${place(step).toFixed(1)},${height(row[column]).toFixed(1)}`);
    });
    end();
  }
  svg.innerHTML = lines.join("");
}

function range(rows) {
  const known = rows.flat().filter((value) => !Number.isNaN(value));
  return [Math.min(...known), Math.max(...known)];
}

async function read(machine) {
  const { classes, channels } = machine.model;
  const rows = parse(at("values").value, channels.count);
  at("found").hidden = false;
  at("last").textContent = `step ${rows.length}`;
  const scaled = rows.map((row) => row.map((value, c) => (value - channels.mean[c]) / channels.deviation[c]));
  const answers = [];
  machine.reset();
  const show = () => {
    const newest = answers.at(-1);
    draw(at("series"), scaled.slice(0, answers.length), rows.length, range(scaled), ofChannel);
    draw(at("answers"), answers, rows.length, classes ? [0, 1] : range(answers), ofClass);
    if (classes) {
      const best = newest.indexOf(Math.max(...newest));
      at("answer").textContent = `${classes[best]}, ${(100 * newest[best]).toFixed(1)} %`;
      at("classes").replaceChildren(...classes.map((label, c) => entry(label, c, `${(100 * newest[c]).toFixed(1)} %`)));
    } else {
      at("answer").textContent = newest[0].toPrecision(6);
    }
    at("answer").dataset.numbers = newest.join(" ");
    say(`${answers.length} of ${rows.length} steps`);
  };
  for (const row of rows) {
    if (stopped) break;
    answers.push(Array.from(await machine.step(row)));
    if (answers.length % Math.ceil(rows.length / 120) === 0) {
      show();
      await breathe();
    }
  }
  if (answers.length) show();
}

function entry(label, number, chance) {
  const item = document.createElement("li");
  for (const text of ["", String(label), chance]) {
    const part = document.createElement("span");
    part.textContent = text;
    item.append(part);
  }
  item.firstChild.style.background = ofClass(number);
  return item;
}

async function main() {
  const machine = await load();
  const { classes, channels } = machine.model;
  at("about").textContent =
    `The model runs in this page. It reads ${channels.count} ${channels.count === 1 ? "channel" : "channels"} step by step, ` +
    `and keeps ${machine.size.toLocaleString("en")} numbers of what it has read.`;
  at("meaning").textContent = classes ? "Probabilities of the classes, of the series so far" : "Answer, of the series so far";
  const example = await json("example.json");
  at("values").value = example.map((row) => row.map((value) => value ?? "").join(",")).join("\n");
  at("stop").addEventListener("click", () => (stopped = true));
  at("file").addEventListener("change", async (event) => {
    if (event.target.files.length) at("values").value = await event.target.files[0].text();
  });
  const run = async (event) => {
    event?.preventDefault();
    stopped = false;
    at("read").disabled = true;
    at("stop").disabled = false;
    try {
      await read(machine);
    } catch (error) {
      say(error.message, true);
    }
    at("read").disabled = false;
    at("stop").disabled = true;
  };
  at("form").addEventListener("submit", run);
  at("read").disabled = false;
  if (new URLSearchParams(location.search).has("read")) await run();
}

main().catch((error) => say(error.message, true));
