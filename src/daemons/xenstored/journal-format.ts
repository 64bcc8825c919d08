/**
 * Journal files: a header, then frames. A frame was written by one write(2) and holds what one batch of requests has
 * changed, in the records of xenstore/migration.
 *
 *     header   "psjournl", number u32, crc32 of the 12 bytes before
 *     frame    "PSJF", length u32, crc32 of the payload, crc32 of the 12 bytes before, payload
 *
 * A daemon that is killed leaves at most its last frame unfinished: nobody has been told of that one, and it is dropped.
 * Anything else that doesn't check is damage, and is refused.
 */
import { crc32 } from 'node:zlib';

export const FRAME_HEADER_SIZE = 16;
export const FILE_HEADER_SIZE = 16;
const IDENT = Buffer.from('psjournl', 'latin1');
const FRAME_IDENT = 0x464a5350;

export function fileHeader(number: number): Buffer {
  const header = Buffer.alloc(FILE_HEADER_SIZE);
  IDENT.copy(header);
  header.writeUInt32LE(number, 8);
  header.writeUInt32LE(crc32(header.subarray(0, 12)), 12);
  return header;
}

/** Fills in the header in front of a payload. */
export function frame(bytes: Uint8Array): void {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  view.setUint32(0, FRAME_IDENT, true);
  view.setUint32(4, bytes.length - FRAME_HEADER_SIZE, true);
  view.setUint32(8, crc32(bytes.subarray(FRAME_HEADER_SIZE)), true);
  view.setUint32(12, crc32(bytes.subarray(0, 12)), true);
}

export interface JournalContents {
  readonly payloads: readonly Uint8Array[];
  /** Where the last whole frame ends; 0 where not even the header is whole. */
  readonly end: number;
}

/** @returns what is whole, or why the file can't be used */
export function parseJournal(bytes: Uint8Array, number: number): JournalContents | string {
  if (bytes.length < FILE_HEADER_SIZE) {
    return fileHeader(number).subarray(0, bytes.length).equals(bytes) ? { payloads: [], end: 0 } : 'it is no journal';
  }
  if (!fileHeader(number).equals(bytes.subarray(0, FILE_HEADER_SIZE))) return `it is not the journal ${number}`;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const payloads: Uint8Array[] = [];
  let at = FILE_HEADER_SIZE;
  for (;;) {
    const left = bytes.length - at;
    if (left === 0) break;
    if (left < FRAME_HEADER_SIZE) break;
    if (
      view.getUint32(at, true) !== FRAME_IDENT ||
      view.getUint32(at + 12, true) !== crc32(bytes.subarray(at, at + 12))
    ) {
      return `it is damaged at offset ${at}`;
    }
    const length = view.getUint32(at + 4, true);
    if (length > left - FRAME_HEADER_SIZE) break;
    const payload = bytes.subarray(at + FRAME_HEADER_SIZE, at + FRAME_HEADER_SIZE + length);
    if (view.getUint32(at + 8, true) !== crc32(payload)) return `it is damaged at offset ${at + FRAME_HEADER_SIZE}`;
    payloads.push(payload);
    at += FRAME_HEADER_SIZE + length;
  }
  return { payloads, end: at };
}
