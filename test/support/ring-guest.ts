/**
 * A domain's end of a XenStore ring, for tests: writes requests as far as there is room and takes what comes, by its own
 * reading of the page's layout.
 */
import { XENSTORE_RING } from '../../dist/abi/xs-wire.js';
import { bytes, decode, encode, type Message, TYPES } from '../unit/xenstore/harness.js';

const RING = 1024;

export class RingGuest {
  readonly view: DataView;
  private incoming = new Uint8Array(0);
  private unsent = new Uint8Array(0);

  /** @param page the shared page @param ring rings the daemon */
  constructor(
    readonly page: Uint8Array,
    private readonly ring: () => void,
  ) {
    this.view = new DataView(page.buffer, page.byteOffset, page.length);
  }

  get(field: keyof typeof XENSTORE_RING): number {
    return this.view.getUint32(XENSTORE_RING[field], true);
  }

  set(field: keyof typeof XENSTORE_RING, value: number): void {
    this.view.setUint32(XENSTORE_RING[field], value >>> 0, true);
  }

  notify(): void {
    this.ring();
  }

  /** Queues raw bytes for the daemon and sends what fits now. */
  raw(data: Uint8Array): void {
    const all = new Uint8Array(this.unsent.length + data.length);
    all.set(this.unsent);
    all.set(data, this.unsent.length);
    this.unsent = all;
    this.push();
  }

  send(type: string, payload = '', id = 0, tx = 0): void {
    this.raw(encode(TYPES[type] ?? Number(type), bytes(payload), id, tx));
  }

  /** Sends on. @returns bytes that still wait for room */
  push(): number {
    const prod = this.get('req_prod');
    const room = Math.max(0, RING - ((prod - this.get('req_cons')) >>> 0)); // none where the indexes make no sense
    const count = Math.min(room, this.unsent.length);
    for (let i = 0; i < count; i++) this.page[XENSTORE_RING.req + ((prod + i) % RING)] = this.unsent[i] as number;
    this.unsent = this.unsent.slice(count);
    this.set('req_prod', prod + count);
    if (count > 0) this.notify();
    return this.unsent.length;
  }

  /** Part of a message has come. */
  get isInMessage(): boolean {
    return this.incoming.length > 0;
  }

  /** Takes what is in the ring. @returns the messages that have become complete */
  take(): Message[] {
    const cons = this.get('rsp_cons');
    const count = (this.get('rsp_prod') - cons) >>> 0;
    if (count > RING) return [];
    const all = new Uint8Array(this.incoming.length + count);
    all.set(this.incoming);
    for (let i = 0; i < count; i++) {
      all[this.incoming.length + i] = this.page[XENSTORE_RING.rsp + ((cons + i) % RING)] as number;
    }
    this.set('rsp_cons', cons + count);
    if (count > 0) this.notify();
    let end = 0;
    const view = new DataView(all.buffer);
    while (all.length - end >= 16 && all.length - end - 16 >= view.getUint32(end + 12, true)) {
      end += 16 + view.getUint32(end + 12, true);
    }
    this.incoming = all.slice(end);
    return decode(all.subarray(0, end));
  }
}
