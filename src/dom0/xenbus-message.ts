/** XenStore messages as the xenbus driver puts them together. @spec xen:io/xs_wire.h struct xsd_sockmsg */
import { XS_HEADER_SIZE } from '../abi/xs-wire.js';

/** A whole message. */
export function message(type: number, requestId: number, transactionId: number, payload: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(XS_HEADER_SIZE + payload.length);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, type, true);
  view.setUint32(4, requestId, true);
  view.setUint32(8, transactionId, true);
  view.setUint32(12, payload.length, true);
  bytes.set(payload, XS_HEADER_SIZE);
  return bytes;
}

/** A string's bytes, one a character. */
export function latin1(text: string): Uint8Array {
  return Uint8Array.from(text, (c) => c.charCodeAt(0));
}
