/**
 * The producer's side of the buffered ring: small writes that no vCPU waits for. A device model holds the other side and
 * can write both pointers and every slot; whatever it does, indices stay within the page.
 *
 * With `atomic` handling both pointers are kept below twice the number of slots, in one 64-bit exchange, so that they
 * never overflow; with `legacy` handling they run freely.
 *
 * @spec xen:common/ioreq.c ioreq_send_buffered
 */
import { buf_ioreq, buffered_iopage, IOREQ_BUFFER_SLOT_NUM, packBufIoreq } from '../../abi/xen/ioreq.js';
import type { IoreqPage } from './ioreq-page.js';

const READ_POINTER = buffered_iopage.fields.read_pointer.offset / 4;
const WRITE_POINTER = buffered_iopage.fields.write_pointer.offset / 4;
const SLOTS = buffered_iopage.fields.buf_ioreq.offset;

/** `addr` has 20 bits in a slot. */
const MAX_ADDR = 0xfffffn;

/** What a slot can carry. */
export interface BufferedRequest {
  readonly type: number;
  readonly addr: bigint;
  readonly data: bigint;
  readonly size: number;
  readonly dir: number;
}

/** Whether the ring has a form for it at all. Requests by pointer or with repetitions never are. */
export function fitsBufferedRing(addr: bigint, size: number): boolean {
  return addr <= MAX_ADDR && (size === 1 || size === 2 || size === 4 || size === 8);
}

/** Appends a request that fits. @returns false when the ring is full: send it through the synchronous page */
export function appendBuffered(page: IoreqPage, isAtomic: boolean, request: BufferedRequest): boolean {
  const nrSlots = request.size === 8 ? 2 : 1;
  const write = Atomics.load(page.words, WRITE_POINTER) >>> 0;
  const used = (write - Atomics.load(page.words, READ_POINTER)) >>> 0;
  if (used > IOREQ_BUFFER_SLOT_NUM - nrSlots) return false;
  const head = packBufIoreq(request.type, request.dir, 31 - Math.clz32(request.size), Number(request.addr));
  writeSlot(page, write, head, Number(BigInt.asUintN(32, request.data)));
  if (nrSlots === 2) writeSlot(page, write + 1, head, Number(BigInt.asUintN(32, request.data >> 32n)));
  Atomics.store(page.words, WRITE_POINTER, (write + nrSlots) | 0); // after the slots: whoever sees it sees them
  if (isAtomic && Atomics.load(page.words, READ_POINTER) >>> 0 >= IOREQ_BUFFER_SLOT_NUM) keepPointersSmall(page);
  return true;
}

function writeSlot(page: IoreqPage, pointer: number, head: number, data: number): void {
  const offset = SLOTS + ((pointer >>> 0) % IOREQ_BUFFER_SLOT_NUM) * buf_ioreq.size;
  page.view.setUint32(offset, head, true);
  page.view.setUint32(offset + 4, data, true);
}

/** Takes the same number of rounds off both pointers, unless the device model moves its own meanwhile: then again. */
function keepPointersSmall(page: IoreqPage): void {
  const pair = new BigInt64Array(page.bytes.buffer, page.bytes.byteOffset, 1);
  // Bounded: a device model that keeps moving the pointer doesn't keep the vCPU here.
  for (let tries = 0; tries < IOREQ_BUFFER_SLOT_NUM; tries++) {
    const old = Atomics.load(pair, 0);
    const read = Number(BigInt.asUintN(32, old));
    if (read < IOREQ_BUFFER_SLOT_NUM) return;
    const write = Number(BigInt.asUintN(32, old >> 32n));
    const rounds = read - (read % IOREQ_BUFFER_SLOT_NUM);
    const moved = (BigInt((write - rounds) >>> 0) << 32n) | BigInt(read - rounds);
    if (Atomics.compareExchange(pair, 0, old, BigInt.asIntN(64, moved)) === old) return;
  }
}
