/**
 * Script text to statements. Everything is checked here that can be without a guest: number ranges, widths, alignment
 * of configuration registers, nesting. The text may be anything; it costs no more than its length.
 */
import { lex, ScriptError, type Token } from './lex.js';
import {
  ACCESS_COMMANDS,
  type Check,
  formatNumber,
  LIMITS,
  type PciFunction,
  type Position,
  type Script,
  type Statement,
} from './script.js';

export { ScriptError } from './lex.js';

const OTHER_COMMANDS = [
  'cfgread',
  'cfgwrite',
  'outs',
  'memread',
  'memwrite',
  'irq',
  'irqs',
  'sleep',
  'print',
  'repeat',
] as const;

const MAX_ADDRESS = 0xffff_ffff_ffff_ffffn;

/** @throws ScriptError at the first thing that cannot be understood */
export function parseScript(text: string): Script {
  return new Parser([...lex(text)], text).script();
}

class Parser {
  private next = 0;
  private nrStatements = 0;
  private readonly endOfText: Position;

  constructor(
    private readonly tokens: readonly Token[],
    text: string,
  ) {
    const lines = text.split('\n');
    this.endOfText = { line: lines.length, column: (lines.at(-1) as string).length + 1 };
  }

  script(): Script {
    const statements = this.statements(0);
    const rest = this.tokens[this.next];
    if (rest) throw new ScriptError(rest, 'this } closes nothing');
    return statements;
  }

  /** Statements up to the end of the text or a `}`, which is left. */
  private statements(depth: number): Statement[] {
    const statements: Statement[] = [];
    for (;;) {
      const token = this.tokens[this.next];
      if (!token || token.text === '}') return statements;
      if (token.kind === 'end') {
        this.next++;
        continue;
      }
      statements.push(this.statement(token, depth));
      if (++this.nrStatements > LIMITS.statements) {
        throw new ScriptError(token, `more than ${LIMITS.statements} statements`);
      }
      this.endOfStatement();
    }
  }

  private endOfStatement(): void {
    const token = this.tokens[this.next];
    if (!token || token.kind === 'end' || token.text === '}') return;
    throw new ScriptError(token, `expected the end of the line, not ${token.text}`);
  }

  private statement(token: Token, depth: number): Statement {
    if (token.kind !== 'word') throw new ScriptError(token, `expected a command, not ${token.text}`);
    this.next++;
    const at = { line: token.line, column: token.column };
    const access = Object.hasOwn(ACCESS_COMMANDS, token.text) ? ACCESS_COMMANDS[token.text] : undefined;
    if (access) return this.access(token.text, access, at);
    switch (token.text as (typeof OTHER_COMMANDS)[number]) {
      case 'cfgread':
      case 'cfgwrite':
        return this.config(token.text as 'cfgread' | 'cfgwrite', at);
      case 'outs':
        return { kind: 'outs', port: this.number('a port', 0xffffn), bytes: this.bytes('what to write'), at };
      case 'memread':
        return this.memoryRead(at);
      case 'memwrite':
        return { kind: 'memwrite', address: this.address('an address'), bytes: this.bytes('what to write'), at };
      case 'irq': {
        const irq = Number(this.number('an ISA interrupt', 15n));
        return { kind: 'irq', irq, ...this.check(1n), at };
      }
      case 'irqs':
        return { kind: 'irqs', at };
      case 'sleep':
        return { kind: 'sleep', ms: Number(this.number('milliseconds', BigInt(LIMITS.sleepMs))), at };
      case 'print':
        return { kind: 'print', text: this.string(), at };
      case 'repeat':
        return this.repeat(at, depth);
      default:
        throw new ScriptError(at, `there is no command '${token.text}'${suggestion(token.text)}`);
    }
  }

  private access(name: string, command: (typeof ACCESS_COMMANDS)[string], at: Position): Statement {
    const { space, size, isRead } = command;
    const address = space === 'port' ? this.port(size) : this.address('an address');
    const max = (1n << BigInt(8 * size)) - 1n;
    if (isRead) return { kind: 'read', space, size, address, ...this.check(max), at };
    return { kind: 'write', space, size, address, value: this.number(`a value for ${name}`, max), at };
  }

  private port(size: number): bigint {
    return this.number('a port', 0x10000n - BigInt(size));
  }

  private address(what: string): bigint {
    return this.number(what, MAX_ADDRESS);
  }

  private config(kind: 'cfgread' | 'cfgwrite', at: Position): Statement {
    const pci = this.pciFunction();
    const registerToken = this.tokens[this.next];
    const register = Number(this.number('a register', 255n));
    const sizeToken = this.tokens[this.next];
    const size = Number(this.number('a width', 4n));
    if (size !== 1 && size !== 2 && size !== 4) {
      throw new ScriptError(sizeToken as Token, `a configuration access is 1, 2 or 4 bytes wide, not ${size}`);
    }
    if ((register & 3) + size > 4) {
      throw new ScriptError(
        registerToken as Token,
        `${size} bytes at ${formatNumber(register)} cross a 4-byte boundary`,
      );
    }
    const max = (1n << BigInt(8 * size)) - 1n;
    if (kind === 'cfgread') return { kind, pci, register, size, ...this.check(max), at };
    return { kind, pci, register, size, value: this.number('a value', max), at };
  }

  private memoryRead(at: Position): Statement {
    const address = this.address('an address');
    const length = Number(this.number('a length in bytes', BigInt(LIMITS.memory)));
    if (this.tokens[this.next]?.text !== '==') return { kind: 'memread', address, length, at };
    this.next++;
    const token = this.tokens[this.next];
    const expected = this.bytes('what is expected');
    if (expected.length !== length) {
      throw new ScriptError(token as Token, `${expected.length} bytes are expected, but ${length} are read`);
    }
    return { kind: 'memread', address, length, expected, at };
  }

  private repeat(at: Position, depth: number): Statement {
    if (depth >= LIMITS.nesting) throw new ScriptError(at, `repeat inside more than ${LIMITS.nesting} others`);
    const count = Number(this.number('a count', BigInt(LIMITS.repeat)));
    this.symbol('{');
    const body = this.statements(depth + 1);
    if (!this.tokens[this.next]) throw new ScriptError(at, 'the { of this repeat has no }');
    this.next++;
    return { kind: 'repeat', count, body, at };
  }

  /** `[& mask] (==|!=) value [within ms]`, or nothing. */
  private check(max: bigint): { check?: Check } {
    let mask: bigint | undefined;
    if (this.tokens[this.next]?.text === '&') {
      this.next++;
      mask = this.number('a mask', max);
    }
    const operator = this.tokens[this.next];
    if (operator?.text !== '==' && operator?.text !== '!=') {
      if (mask !== undefined) throw new ScriptError(operator ?? this.endOfText, 'expected == or != after the mask');
      return {};
    }
    this.next++;
    const value = this.number('a value to compare with', max);
    if (mask !== undefined && (value & ~mask) !== 0n) {
      const problem = `${formatNumber(value)} has bits outside the mask ${formatNumber(mask)}: this can never be equal`;
      throw new ScriptError(this.tokens[this.next - 1] as Token, problem);
    }
    const check = { isEqual: operator.text === '==', value, ...(mask === undefined ? {} : { mask }) };
    if (this.tokens[this.next]?.text !== 'within') return { check };
    this.next++;
    return { check: { ...check, withinMs: Number(this.number('milliseconds', BigInt(LIMITS.sleepMs))) } };
  }

  private take(what: string): Token {
    const token = this.tokens[this.next];
    if (!token || token.kind === 'end') throw new ScriptError(token ?? this.endOfText, `expected ${what} here`);
    this.next++;
    return token;
  }

  private number(what: string, max: bigint): bigint {
    const token = this.take(what);
    if (token.kind !== 'number') throw new ScriptError(token, `expected ${what}, not ${token.text}`);
    if (token.value > max) {
      throw new ScriptError(token, `${token.text} is not ${what}: the largest is ${formatNumber(max)}`);
    }
    return token.value;
  }

  private string(): string {
    const token = this.take('a text in "quotes"');
    if (token.kind !== 'string') throw new ScriptError(token, `expected a text in "quotes", not ${token.text}`);
    return token.value;
  }

  /** A string stands for its UTF-8 bytes; `\xNN` in it for the character, so use x"…" for arbitrary bytes. */
  private bytes(what: string): Uint8Array {
    const token = this.take(`${what} as "text" or x"hex"`);
    if (token.kind !== 'string' && token.kind !== 'bytes') {
      throw new ScriptError(token, `expected ${what} as "text" or x"hex", not ${token.text}`);
    }
    const bytes = token.kind === 'bytes' ? token.value : utf8(token.value);
    if (bytes.length > LIMITS.memory) throw new ScriptError(token, `more than ${LIMITS.memory} bytes`);
    return bytes;
  }

  private symbol(text: '{'): void {
    const token = this.take(text);
    if (token.text !== text) throw new ScriptError(token, `expected ${text}, not ${token.text}`);
  }

  private pciFunction(): PciFunction {
    const token = this.take('a PCI function such as 00:02.0');
    const parts = /^([0-9a-f]{1,2}):([0-9a-f]{1,2})\.([0-7])$/i.exec(token.text);
    const [bus, device, fn] = (parts ?? []).slice(1).map((part) => Number.parseInt(part, 16));
    if (bus === undefined || device === undefined || fn === undefined || device > 31) {
      throw new ScriptError(token, `expected a PCI function such as 00:02.0, not ${token.text}`);
    }
    return { bus, device, fn };
  }
}

/** UTF-8, without the platform's encoder: this layer knows no platform. */
function utf8(text: string): Uint8Array {
  const escaped = encodeURIComponent(text.replaceAll(/\p{Surrogate}/gu, '\ufffd'));
  const bytes: number[] = [];
  for (let i = 0; i < escaped.length; i++) {
    const isEscape = escaped[i] === '%';
    bytes.push(isEscape ? Number.parseInt(escaped.slice(i + 1, i + 3), 16) : escaped.charCodeAt(i));
    if (isEscape) i += 2;
  }
  return Uint8Array.from(bytes);
}

/** `; did you mean 'inb'?` where exactly one letter differs, is missing or too many. */
function suggestion(word: string): string {
  const names = [...Object.keys(ACCESS_COMMANDS), ...OTHER_COMMANDS];
  const close = names.filter((name) => isOneEditApart(name, word.toLowerCase()));
  return close.length > 0 ? `; did you mean ${close.map((name) => `'${name}'`).join(' or ')}?` : '';
}

function isOneEditApart(a: string, b: string): boolean {
  if (a === b) return true;
  let start = 0;
  while (start < a.length && a[start] === b[start]) start++;
  const [restA, restB] = [a.slice(start), b.slice(start)];
  return restA.slice(1) === restB.slice(1) || restA === restB.slice(1) || restA.slice(1) === restB;
}
