/** Characters to tokens, each with its place, so that every complaint can point at what it means. */
import type { Position } from './script.js';

export type Token = Position &
  (
    | { readonly kind: 'word'; readonly text: string }
    | { readonly kind: 'number'; readonly text: string; readonly value: bigint }
    | { readonly kind: 'string'; readonly text: string; readonly value: string }
    | { readonly kind: 'bytes'; readonly text: string; readonly value: Uint8Array }
    | { readonly kind: 'symbol'; readonly text: '&' | '==' | '!=' | '{' | '}' }
    /** A line break or `;`. */
    | { readonly kind: 'end'; readonly text: string }
  );

/** A script that cannot be understood. `message` names line and column. */
export class ScriptError extends Error {
  override readonly name = 'ScriptError';

  constructor(
    readonly position: Position,
    readonly problem: string,
  ) {
    super(`line ${position.line}, column ${position.column}: ${problem}`);
  }
}

/** Order matters: what looks most specific first. */
const PATTERNS = {
  space: /[ \t\r]+|#[^\n]*/y,
  end: /[\n;]/y,
  symbol: /==|!=|[&{}]/y,
  bytes: /x"([^"\n]*)"/y,
  string: /"((?:[^"\\\n]|\\.)*)"/y,
  character: /'((?:[^'\\\n]|\\.)+)'/y,
  word: /[A-Za-z0-9_][A-Za-z0-9_:.]*/y,
} as const;

const NUMBER = /^(?:0x[0-9a-f]+(?:_[0-9a-f]+)*|0b[01]+(?:_[01]+)*|\d+(?:_\d+)*)$/i;
/** No number here needs more; also keeps a hostile script from making the parser work. */
const MAX_NUMBER_LENGTH = 80;

const ESCAPES: Readonly<Record<string, string>> = {
  n: '\n',
  r: '\r',
  t: '\t',
  '0': '\0',
  '\\': '\\',
  '"': '"',
  "'": "'",
};

export function* lex(text: string): Generator<Token, void, undefined> {
  let line = 1;
  let lineStart = 0;
  let at = 0;
  const match = (pattern: RegExp) => {
    pattern.lastIndex = at;
    return pattern.exec(text);
  };
  while (at < text.length) {
    const position = { line, column: at - lineStart + 1 };
    const space = match(PATTERNS.space);
    if (space) {
      at += space[0].length;
      continue;
    }
    const token = nextToken(match, position, text[at] as string);
    at += token.text.length;
    if (token.text === '\n') {
      line++;
      lineStart = at;
    }
    yield token;
  }
}

function nextToken(match: (pattern: RegExp) => RegExpExecArray | null, at: Position, character: string): Token {
  let found = match(PATTERNS.end);
  if (found) return { kind: 'end', text: found[0], ...at };
  found = match(PATTERNS.symbol);
  if (found) return { kind: 'symbol', text: found[0] as '&', ...at };
  found = match(PATTERNS.bytes);
  if (found) return { kind: 'bytes', text: found[0], value: parseHex(found[1] as string, at), ...at };
  found = match(PATTERNS.string);
  if (found) return { kind: 'string', text: found[0], value: resolveEscapes(found[1] as string, at), ...at };
  found = match(PATTERNS.character);
  if (found) return { kind: 'number', text: found[0], value: characterCode(found[1] as string, at), ...at };
  found = match(PATTERNS.word);
  if (found) return wordOrNumber(found[0], at);
  if (character === '"') throw new ScriptError(at, 'this string does not end on its line');
  throw new ScriptError(at, `${JSON.stringify(character)} has no meaning here`);
}

function wordOrNumber(text: string, at: Position): Token {
  if (NUMBER.test(text)) {
    if (text.length > MAX_NUMBER_LENGTH) throw new ScriptError(at, 'this number is too long');
    return { kind: 'number', text, value: BigInt(text.replaceAll('_', '').toLowerCase()), ...at };
  }
  return { kind: 'word', text, ...at };
}

function parseHex(digits: string, at: Position): Uint8Array {
  const compact = digits.replaceAll(/[ \t]/g, '');
  if (!/^(?:[0-9a-f]{2})*$/i.test(compact)) {
    throw new ScriptError(at, 'x"…" takes pairs of hexadecimal digits, such as x"48 65 6c"');
  }
  return Uint8Array.from({ length: compact.length / 2 }, (_, i) =>
    Number.parseInt(compact.slice(2 * i, 2 * i + 2), 16),
  );
}

function resolveEscapes(raw: string, at: Position): string {
  return raw.replaceAll(/\\(x[0-9a-fA-F]{2}|[\s\S])/g, (whole, name: string) => {
    if (name.length === 3) return String.fromCharCode(Number.parseInt(name.slice(1), 16));
    const value = ESCAPES[name];
    if (value === undefined)
      throw new ScriptError(at, `${whole} is no escape; there are \\n \\r \\t \\0 \\" \\' \\\\ \\xNN`);
    return value;
  });
}

function characterCode(raw: string, at: Position): bigint {
  const value = resolveEscapes(raw, at);
  if (value.length !== 1 || value.charCodeAt(0) > 0xff)
    throw new ScriptError(at, "'…' takes one character of one byte");
  return BigInt(value.charCodeAt(0));
}
