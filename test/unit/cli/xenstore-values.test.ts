import fc from 'fast-check';
import { describe, expect, it } from 'vitest';

import { escapeValue, jsonValue, unescapeValue } from '../../../dist/cli/xenstore-values.js';

const latin1 = (bytes: Uint8Array): string => Buffer.from(bytes).toString('latin1');

describe('values for people', () => {
  it.each([
    ['plain text ~', 'plain text ~'],
    ['\t\n\r\\', '\\t\\n\\r\\\\'],
    ['\x00\x01\x07', '\\000\\001\\007'],
    ['\x08\x0b\x1f\x7f\xff', '\\x08\\x0b\\x1f\\x7f\\xff'],
  ])('%j are %j', (bytes, text) => {
    expect(escapeValue(Buffer.from(bytes, 'latin1'))).toBe(text);
    expect(latin1(unescapeValue(text))).toBe(bytes);
  });

  it.each([
    ['\\x4', '\x04'],
    ['\\x41b', 'Ab'],
    ['\\xzz', 'xzz'],
    ['\\1018', 'A8'],
    ['\\8\\q', '8q'],
    ['\\777', '\xff'],
    ['end\\', 'end\x00'],
    ['ü', '\xc3\xbc'],
    ['\\ü', '\xc3\xbc'],
  ])('%j is written as %j', (text, bytes) => {
    expect(latin1(unescapeValue(text))).toBe(bytes);
  });

  it('come back as they were', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 100 }), (bytes) => {
        const text = escapeValue(bytes);
        expect(text).toMatch(/^[ -~]*$/);
        expect(latin1(unescapeValue(text))).toBe(latin1(bytes));
      }),
    );
  });
});

describe('values for programs', () => {
  it('are text where they are UTF-8', () => {
    expect(jsonValue(Buffer.from('grün\0'))).toEqual({ value: 'grün\0' });
    expect(jsonValue(Buffer.from('\ufeffx'))).toEqual({ value: '\ufeffx' });
    expect(jsonValue(Uint8Array.of(0xff, 0))).toEqual({ base64: '/wA=' });
  });
});
