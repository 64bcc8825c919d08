/** Answers to requests: one packet, with memory files attached where the client has mappings to make. */
import type { Extent, FrameRun } from '../boundary/extent.js';
import { XenError } from '../boundary/xen-error.js';
import { allocateNative, libc, MSG_DONTWAIT, MSG_NOSIGNAL } from './libc.js';
import {
  MAX_MESSAGE,
  POSTERN_MAGIC,
  POSTERN_MAX_FILES,
  POSTERN_REPLY_SCATTERED,
  postern_out,
  postern_reply,
  postern_run,
} from './protocol.js';
import type { Output, Request } from './request.js';
import { sendWithFiles } from './unix-socket.js';

/** What can be mapped by a client: an extent with a file behind it. */
export interface FileExtent extends Extent {
  readonly fd: number;
}

/** A reply being put together. One buffer serves all: replies are sent at once, or not at all. */
const buffer = allocateNative(MAX_MESSAGE + 0x40000);
const REPLY = postern_reply.fields;
const AT = {
  magic: REPLY.magic.offset,
  call: REPLY.call.offset,
  ret: REPLY.ret.offset,
  flags: REPLY.flags.offset,
  nrOut: REPLY.nr_out.offset,
  nrRuns: REPLY.nr_runs.offset,
  length: REPLY.length.offset,
  process: REPLY.process.offset,
  token: REPLY.token.offset,
} as const;

export interface ReplyExtras {
  readonly runs: readonly FrameRun[];
  /** Descriptors to pass besides the runs' files. */
  readonly files: readonly number[];
}

export const NO_EXTRAS: ReplyExtras = { runs: [], files: [] };

/** @throws XenError ENOMEM where a mapping is in too many pieces for one answer */
export function assertMappable(runs: readonly FrameRun[]): void {
  if (new Set(runs.map((run) => run.extent)).size > POSTERN_MAX_FILES) {
    throw new XenError('ENOMEM', `mapping touches more than ${POSTERN_MAX_FILES} extents`);
  }
}

/** @returns false where the client's connection did not take it */
export function sendReply(fd: number, request: Request, ret: number, extras: ReplyExtras = NO_EXTRAS): boolean {
  const v = buffer.view;
  let at: number = postern_reply.size;
  let length = request.writeStraight(buffer.bytes, at);
  const scattered = length < 0;
  if (scattered) {
    at = writeOutputs(request, at);
    length = request.outputLength;
    buffer.bytes.set(request.output.subarray(0, length), at);
  }
  at += length;
  let files = extras.files;
  if (extras.runs.length > 0) {
    const all = [...files];
    at = writeRuns(extras.runs, all, at);
    files = all;
  }
  v.setUint32(AT.magic, POSTERN_MAGIC, true);
  v.setUint32(AT.call, request.call, true);
  v.setInt32(AT.ret, ret, true);
  v.setUint16(AT.flags, scattered ? POSTERN_REPLY_SCATTERED : 0, true);
  v.setUint16(AT.nrOut, scattered ? request.nrOutputs : 0, true);
  v.setUint32(AT.nrRuns, extras.runs.length, true);
  v.setUint32(AT.length, length, true);
  v.setUint32(AT.process, 0, true);
  v.setUint32(AT.token, 0, true);
  v.setUint32(AT.token + 4, 0, true);
  return transmit(fd, at, files);
}

/** The answer to HELLO: who the process is, and the token that proves it. */
export function sendWelcome(fd: number, process: number, tokenLow: number, tokenHigh: number): boolean {
  const v = buffer.view;
  buffer.bytes.fill(0, 0, postern_reply.size);
  REPLY.magic.set(v, 0, POSTERN_MAGIC);
  REPLY.process.set(v, 0, process);
  v.setUint32(REPLY.token.offset, tokenLow, true);
  v.setUint32(REPLY.token.offset + 4, tokenHigh, true);
  return transmit(fd, postern_reply.size, []);
}

function transmit(fd: number, length: number, files: readonly number[]): boolean {
  const sent =
    files.length > 0
      ? sendWithFiles(fd, buffer, length, files)
      : libc.send(fd, buffer.address, length, MSG_DONTWAIT | MSG_NOSIGNAL);
  return sent === length;
}

function writeOutputs(request: Request, from: number): number {
  let at = from;
  for (let i = 0; i < request.nrOutputs; i++) {
    postern_out.write(buffer.view, at, request.outputs[i] as Output);
    at += postern_out.size;
  }
  return at;
}

/** Appends the runs and collects the files they lie in. */
function writeRuns(runs: readonly FrameRun[], files: number[], from: number): number {
  const indexes = new Map<Extent, number>();
  let at = from;
  for (const run of runs) {
    let file = indexes.get(run.extent);
    if (file === undefined) {
      file = files.length;
      indexes.set(run.extent, file);
      files.push((run.extent as FileExtent).fd);
    }
    postern_run.write(buffer.view, at, { page: run.page, nr_pages: run.nrPages, file, frame: run.frame });
    at += postern_run.size;
  }
  return at;
}
