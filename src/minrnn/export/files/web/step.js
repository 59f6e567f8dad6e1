// step.onnx as a function: one time step, from a state to the next.

import * as ort from "./runtime/ort.wasm.min.mjs";

ort.env.wasm.numThreads = 1; // more need headers that a plain web server does not send
ort.env.wasm.wasmPaths = new URL("./runtime/", import.meta.url).href;

const ARRAYS = { float32: Float32Array, float64: Float64Array, int64: BigInt64Array, bool: Uint8Array };

export async function json(name) {
  const answer = await fetch(name);
  if (!answer.ok) throw new Error(`cannot load ${name}: ${answer.status}`);
  return answer.json();
}

export async function load() {
  const model = await json("model.json");
  const graph = model.graphs.step;
  const session = await ort.InferenceSession.create(graph.file, { executionProviders: ["wasm"] });
  const input = graph.inputs[0];
  let state = {};

  function reset() {
    for (const part of graph.state) {
      const shape = [1, ...part.shape.slice(1)];
      const count = shape.reduce((a, b) => a * b, 1);
      const plain = Array.isArray(part.initial) ? part.initial.flat(Infinity) : Array(count).fill(part.initial);
      const values = part.dtype === "int64" ? plain.map(BigInt) : plain;
      state[part.name] = new ort.Tensor(part.dtype, ARRAYS[part.dtype].from(values), shape);
    }
  }

  // Reads the values of one step, and gives the numbers that the graph answers with.
  async function step(values) {
    const shape = [1, ...input.shape.slice(1)];
    const given = input.dtype === "int64" ? values.map(BigInt) : values;
    const found = await session.run({ [input.name]: new ort.Tensor(input.dtype, ARRAYS[input.dtype].from(given), shape), ...state });
    for (const part of graph.state) state[part.name] = found[part.next];
    return found[graph.outputs[0].name].data;
  }

  reset();
  const size = graph.state.reduce((sum, part) => sum + part.shape.slice(1).reduce((a, b) => a * b, 1), 0);
  return { model, step, reset, size };
}

// Gives the page a moment to be drawn and to hear of buttons.
export const breathe = () => new Promise((done) => setTimeout(done));
