// A journal's file, cut off and damaged at every byte.
import { describe, expect, it } from 'vitest';
import {
  FILE_HEADER_SIZE,
  FRAME_HEADER_SIZE,
  fileHeader,
  frame,
  parseJournal,
} from '../../../dist/daemons/xenstored/journal-format.js';

function framed(payload: string): Buffer {
  const bytes = Buffer.concat([Buffer.alloc(FRAME_HEADER_SIZE), Buffer.from(payload)]);
  frame(bytes);
  return bytes;
}

const PAYLOADS = ['one', 'two and more', 'three'];
const FRAMES = PAYLOADS.map(framed);
const FILE = Buffer.concat([fileHeader(7), ...FRAMES]);
/** Where a frame ends, and how many there are until then. */
const ENDS = FRAMES.map((_, i) => FILE_HEADER_SIZE + Buffer.concat(FRAMES.slice(0, i + 1)).length);

describe('a journal', () => {
  it('is read', () => {
    const contents = parseJournal(FILE, 7);
    expect(contents).toMatchObject({ end: FILE.length });
    const payloads = typeof contents === 'string' ? [] : contents.payloads;
    expect(payloads.map((payload) => Buffer.from(payload).toString())).toEqual(PAYLOADS);
  });

  it('that was cut off anywhere has the frames before', () => {
    for (let length = 0; length < FILE.length; length++) {
      const contents = parseJournal(FILE.subarray(0, length), 7);
      const whole = ENDS.filter((end) => end <= length);
      const end = length < FILE_HEADER_SIZE ? 0 : (whole.at(-1) ?? FILE_HEADER_SIZE);
      expect(contents).toMatchObject({ end, payloads: { length: whole.length } });
    }
  });

  it('that is damaged anywhere is refused', () => {
    for (let at = 0; at < FILE.length; at++) {
      for (const bit of [1, 128]) {
        const damaged = Buffer.from(FILE);
        damaged.writeUInt8(damaged.readUInt8(at) ^ bit, at);
        expect(parseJournal(damaged, 7), `bit ${bit} of byte ${at}`).toMatch(
          /^it is (damaged at offset \d+|not the journal 7)$/,
        );
      }
    }
  });

  it('of another number is refused', () => {
    expect(parseJournal(FILE, 8)).toBe('it is not the journal 8');
    expect(parseJournal(FILE.subarray(0, 12), 8)).toBe('it is no journal');
  });
});
