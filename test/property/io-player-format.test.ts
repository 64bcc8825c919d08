/** A script written out and read back is the same script; text from anywhere gives a script or a ScriptError. */
import fc from 'fast-check';
import { expect, it } from 'vitest';
import { formatScript } from '../../dist/io-player/format.js';
import { parseScript, ScriptError } from '../../dist/io-player/parse.js';
import { ACCESS_COMMANDS, type Script, type Statement } from '../../dist/io-player/script.js';

const at = { line: 1, column: 1 };
const value = (size: number) => fc.bigInt({ min: 0n, max: (1n << BigInt(8 * size)) - 1n });

const check = (size: number) =>
  fc
    .record({
      mask: fc.option(value(size), { nil: undefined }),
      isEqual: fc.boolean(),
      value: value(size),
      withinMs: fc.option(fc.nat(600_000), { nil: undefined }),
    })
    .map(({ mask, isEqual, value: v, withinMs }) => ({
      isEqual,
      value: mask === undefined ? v : v & mask,
      ...(mask === undefined ? {} : { mask }),
      ...(withinMs === undefined ? {} : { withinMs }),
    }));

const optional = <T>(key: string, arbitrary: fc.Arbitrary<T>) =>
  fc.option(arbitrary, { nil: undefined }).map((v) => (v === undefined ? {} : { [key]: v }));

const access = fc.constantFrom(...Object.values(ACCESS_COMMANDS)).chain(({ space, size, isRead }) => {
  const address = space === 'port' ? fc.bigInt({ min: 0n, max: 0x10000n - BigInt(size) }) : value(8);
  return isRead
    ? fc.record({ address, extra: optional('check', check(size)) }).map(({ address: a, extra }) => {
        return { kind: 'read', space, size, address: a, ...extra, at };
      })
    : fc.record({ address, value: value(size) }).map((r) => ({ kind: 'write', space, size, ...r, at }));
});

const config = fc
  .record({
    pci: fc.record({ bus: fc.nat(255), device: fc.nat(31), fn: fc.nat(7) }),
    word: fc.nat(63),
    place: fc.constantFrom([0, 4], [0, 2], [2, 2], [1, 2], [0, 1], [3, 1]),
    isRead: fc.boolean(),
  })
  .chain(({ pci, word, place, isRead }) => {
    const [offset, size] = place as [number, 1 | 2 | 4];
    const base = { pci, register: 4 * word + offset, size, at };
    return isRead
      ? optional('check', check(size)).map((extra) => ({ kind: 'cfgread', ...base, ...extra }))
      : value(size).map((v) => ({ kind: 'cfgwrite', ...base, value: v }));
  });

const bytes = fc.uint8Array({ maxLength: 40 });
const simple = fc.oneof(
  access,
  config,
  fc.record({ kind: fc.constant('outs'), port: fc.bigInt({ min: 0n, max: 0xffffn }), bytes, at: fc.constant(at) }),
  fc.record({ kind: fc.constant('memwrite'), address: value(8), bytes, at: fc.constant(at) }),
  fc.record({ address: value(8), bytes, expects: fc.boolean() }).map(({ address, bytes: b, expects }) => {
    return { kind: 'memread', address, length: b.length, ...(expects ? { expected: b } : {}), at };
  }),
  fc
    .record({ irq: fc.nat(15), extra: optional('check', check(0)) })
    .map((r) => ({ kind: 'irq', irq: r.irq, ...r.extra, at })),
  fc.constant({ kind: 'irqs', at }),
  fc.record({ kind: fc.constant('sleep'), ms: fc.nat(600_000), at: fc.constant(at) }),
  fc.record({ kind: fc.constant('print'), text: fc.string({ unit: 'binary', maxLength: 30 }), at: fc.constant(at) }),
) as fc.Arbitrary<Statement>;

const statement: fc.Arbitrary<Statement> = fc.letrec<{ node: Statement }>((tie) => ({
  node: fc.oneof(
    { depthSize: 'small', withCrossShrink: true },
    simple,
    fc
      .record({ count: fc.nat(1_000_000_000), body: fc.array(tie('node'), { maxLength: 4 }) })
      .map((r) => ({ kind: 'repeat' as const, ...r, at })),
  ),
})).node;

function withoutPlaces(script: Script): unknown {
  return script.map((s) => ({ ...s, at, ...(s.kind === 'repeat' ? { body: withoutPlaces(s.body) } : {}) }));
}

it('parse after format is the identity', () => {
  fc.assert(
    fc.property(fc.array(statement, { maxLength: 10 }), (script) => {
      expect(withoutPlaces(parseScript(formatScript(script)))).toEqual(withoutPlaces(script));
    }),
    { numRuns: 500 },
  );
});

it('any text parses or is refused with its place', () => {
  const word = fc.constantFrom(
    'inb',
    'outb',
    'repeat',
    '{',
    '}',
    '0x3f8',
    '"x"',
    'x"41"',
    '&',
    '==',
    'within',
    ';',
    '\n',
    "'a'",
  );
  const text = fc.oneof(
    fc.string({ unit: 'binary' }),
    fc.array(word, { maxLength: 12 }).map((words) => words.join(' ')),
  );
  fc.assert(
    fc.property(text, (source) => {
      try {
        const script = parseScript(source);
        expect(formatScript(parseScript(formatScript(script)))).toBe(formatScript(script));
      } catch (error) {
        if (!(error instanceof ScriptError)) throw error;
        const lines = source.split('\n');
        expect(error.position.line).toBeLessThanOrEqual(lines.length);
        expect(error.position.column).toBeLessThanOrEqual((lines[error.position.line - 1] as string).length + 1);
      }
    }),
    { numRuns: 1000 },
  );
});
