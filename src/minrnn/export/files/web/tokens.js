// Text as token ids and back, from tokenizer.json.

const WORDS = /'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+/gu; // as GPT-2 splits them

export class Tokens {
  constructor(record) {
    this.kind = record.kind;
    const characters = this.kind === "characters";
    this.tokens = characters
      ? Array.from(record.characters, (character) => new TextEncoder().encode(character))
      : Array.from({ length: 256 }, (_, value) => Uint8Array.of(value));
    this.ids = new Map(this.tokens.map((token, id) => [String(token), id]));
    this.ranks = new Map();
    this.joined = new Map();
    for (const [left, right] of record.merges ?? []) {
      const both = Uint8Array.of(...this.tokens[left], ...this.tokens[right]);
      if (!this.ids.has(String(both))) {
        this.ids.set(String(both), this.tokens.length);
        this.tokens.push(both);
      }
      const pair = `${left} ${right}`;
      if (!this.ranks.has(pair)) this.ranks.set(pair, this.ranks.size);
      this.joined.set(pair, this.ids.get(String(both)));
    }
  }

  encode(text) {
    const encoder = new TextEncoder();
    if (this.kind === "characters") {
      return Array.from(text, (character) => {
        const id = this.ids.get(String(encoder.encode(character)));
        if (id === undefined) throw new Error(`The model does not know the character ${JSON.stringify(character)}.`);
        return id;
      });
    }
    if (this.kind === "bytes") return Array.from(encoder.encode(text));
    return (text.match(WORDS) ?? []).flatMap((word) => this.merged(Array.from(encoder.encode(word))));
  }

  // Joins the pair that was learned first, until none is left.
  merged(ids) {
    for (;;) {
      let best = Infinity, pair = "";
      for (let at = 0; at + 1 < ids.length; at++) {
        const rank = this.ranks.get(`${ids[at]} ${ids[at + 1]}`) ?? Infinity;
        if (rank < best) [best, pair] = [rank, `${ids[at]} ${ids[at + 1]}`];
      }
      if (best === Infinity) return ids;
      const next = [];
      for (let at = 0; at < ids.length; at++) {
        const both = `${ids[at]} ${ids[at + 1]}` === pair;
        next.push(both ? this.joined.get(pair) : ids[at]);
        if (both) at++;
      }
      ids = next;
    }
  }
}
