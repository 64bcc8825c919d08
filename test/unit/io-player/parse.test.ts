/** The script language: what parses to what, and what is refused where and why. */
import { describe, expect, it } from 'vitest';
import { formatScript } from '../../../dist/io-player/format.js';
import { parseScript, ScriptError } from '../../../dist/io-player/parse.js';

describe('statements', () => {
  // source, canonical form
  it.each([
    ['inb 0x3fd', 'inb 0x3fd\n'],
    ['inl 65532', 'inl 0xfffc\n'],
    ['outb 0x3f8 0b1010_0101', 'outb 0x3f8 0xa5\n'],
    ["outb 0x3f8 'A' # a letter", 'outb 0x3f8 0x41\n'],
    [`outb 0x3f8 '\\''; outb 1 '"'`, 'outb 0x3f8 0x27\noutb 0x1 0x22\n'],
    ['readq 0xffff_ffff_ffff_ffff', 'readq 0xffffffffffffffff\n'],
    ['writeq 0 0xffffffffffffffff', 'writeq 0x0 0xffffffffffffffff\n'],
    ['inb 0x3fd==0x60', 'inb 0x3fd == 0x60\n'],
    ['inb 1 & 0xf0 != 0x20 within 100', 'inb 0x1 & 0xf0 != 0x20 within 100\n'],
    ['cfgread 0:2.0 16 4', 'cfgread 00:02.0 0x10 4\n'],
    ['cfgread FF:1F.7 0xff 1 == 0', 'cfgread ff:1f.7 0xff 1 == 0x0\n'],
    ['cfgwrite 00:02.0 0x10 4 0xf0000000', 'cfgwrite 00:02.0 0x10 4 0xf0000000\n'],
    ['outs 0x3f8 "a\\n\\x00"', 'outs 0x3f8 x"610a00"\n'],
    ['outs 0x3f8 "é"', 'outs 0x3f8 x"c3a9"\n'],
    ['memread 0x1000 2 == x"4142"', 'memread 0x1000 2 == "AB"\n'],
    ['memwrite 0x1000 x""', 'memwrite 0x1000 ""\n'],
    ['irq 15 == 1', 'irq 15 == 0x1\n'],
    ['irqs;irqs', 'irqs\nirqs\n'],
    ['print "a \\"b\\" \\\\ # no comment"', 'print "a \\"b\\" \\\\ # no comment"\n'],
    ['repeat 2 { inb 1; repeat 0 {} }', 'repeat 2 {\n  inb 0x1\n  repeat 0 {\n  }\n}\n'],
    ['repeat 2 {\n\n inb 1 }', 'repeat 2 {\n  inb 0x1\n}\n'],
    ['\r\n  # nothing\n;;', ''],
    ['', ''],
  ])('%j', (source, canonical) => {
    expect(formatScript(parseScript(source))).toBe(canonical);
  });

  it('know where they are', () => {
    const [a, b] = parseScript('\n  inb 1\nrepeat 1 { outb 2 3 }');
    expect(a?.at).toEqual({ line: 2, column: 3 });
    expect(b).toMatchObject({ at: { line: 3, column: 1 }, body: [{ at: { line: 3, column: 12 } }] });
  });
});

describe('mistakes', () => {
  it.each([
    ['imb 1', 1, 1, /no command 'imb'; did you mean 'inb'\?/],
    ['outbb 1 1', 1, 1, /did you mean 'outb'/],
    ['frobnicate', 1, 1, /no command 'frobnicate'$/],
    ['constructor 1', 1, 1, /no command/],
    ['INB 1', 1, 1, /no command 'INB'/],
    ['0x10', 1, 1, /expected a command, not 0x10/],
    ['inb', 1, 4, /expected a port here/],
    ['inb\noutb 1 1', 1, 4, /expected a port here/],
    ['inb 3f8', 1, 5, /expected a port, not 3f8/],
    ['inb 0x10000', 1, 5, /0x10000 is not a port: the largest is 0xffff/],
    ['inl 0xfffd', 1, 5, /the largest is 0xfffc/],
    ['\noutb 0x3f8 0x100', 2, 12, /0x100 is not a value for outb: the largest is 0xff/],
    ['writeq 0 0x10000000000000000', 1, 10, /not a value for writeq/],
    [`outb 1 ${'1'.repeat(81)}`, 1, 8, /too long/],
    ['inb 1 2', 1, 7, /expected the end of the line, not 2/],
    ['inb 1 & 2', 1, 10, /expected == or != after the mask/],
    ['inb 1 & 0xf0 == 0x0f', 1, 17, /can never be equal/],
    ['inb 1 == 0x100', 1, 10, /not a value to compare with/],
    ['inb 1 == 0 within', 1, 18, /expected milliseconds here/],
    ['inb 1 == 0 within 600001', 1, 19, /largest/],
    ['cfgread 00:20.0 0 4', 1, 9, /such as 00:02.0, not 00:20.0/],
    ['cfgread 00:02.8 0 4', 1, 9, /such as 00:02.0/],
    ['cfgread 00:02.0 0x100 1', 1, 17, /not a register/],
    ['cfgread 00:02.0 0 3', 1, 19, /1, 2 or 4 bytes wide, not 3/],
    ['cfgread 00:02.0 2 4', 1, 17, /4 bytes at 0x2 cross a 4-byte boundary/],
    ['cfgread 00:02.0 255 2', 1, 17, /cross/],
    ['memread 0 3 == "ab"', 1, 16, /2 bytes are expected, but 3 are read/],
    ['memread 0 65537', 1, 11, /not a length in bytes/],
    ['memwrite 0 1', 1, 12, /as "text" or x"hex", not 1/],
    [`memwrite 0 "${'a'.repeat(65537)}"`, 1, 12, /more than 65536 bytes/],
    ['memwrite 0 x"123"', 1, 12, /pairs of hexadecimal digits/],
    ['print hello', 1, 7, /text in "quotes", not hello/],
    ['print "open', 1, 7, /does not end on its line/],
    ['print "\\q"', 1, 7, /\\q is no escape/],
    ["outb 1 'ab'", 1, 8, /one character of one byte/],
    ["outb 1 '€'", 1, 8, /one character of one byte/],
    ['irq 16', 1, 5, /not an ISA interrupt/],
    ['repeat 2\n{ }', 1, 9, /expected \{ here/],
    ['repeat 2 { inb 1', 1, 1, /has no \}/],
    ['inb 1 }', 1, 7, /this \} closes nothing/],
    ['repeat 1000000001 {}', 1, 8, /not a count/],
    ['repeat 1 {'.repeat(17), 1, 161, /inside more than 16 others/],
    ['inb 1 @', 1, 7, /"@" has no meaning here/],
    ['\tinb 1 =! 2', 1, 8, /"=" has no meaning/],
  ])('%j is refused at %i:%i', (source, line, column, problem) => {
    let error: unknown;
    try {
      parseScript(source);
    } catch (e) {
      error = e;
    }
    expect(error).toBeInstanceOf(ScriptError);
    expect((error as ScriptError).problem).toMatch(problem);
    expect((error as ScriptError).position).toMatchObject({ line, column });
  });

  it('too many statements are refused', () => {
    expect(() => parseScript('irqs\n'.repeat(100_001))).toThrow(/more than 100000 statements/);
  });
});
