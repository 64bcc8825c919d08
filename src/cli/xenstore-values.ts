/** Values as the xenstore tools print and read them: what isn't printable ASCII is written with a backslash. */

const NAMED: Readonly<Record<number, string>> = { 9: 't', 10: 'n', 13: 'r', 92: '\\' };
const BYTE_OF: Readonly<Record<string, number>> = { t: 9, n: 10, r: 13 };

/** Bytes for people. */
export function escapeValue(bytes: Uint8Array): string {
  let text = '';
  for (const byte of bytes) {
    if (byte >= 0x20 && byte <= 0x7e && byte !== 0x5c) text += String.fromCharCode(byte);
    else text += `\\${NAMED[byte] ?? (byte < 8 ? byte.toString(8).padStart(3, '0') : `x${hex(byte)}`)}`;
  }
  return text;
}

/** The bytes of what a person wrote; a character that is not escaped stands for its UTF-8. */
export function unescapeValue(text: string): Uint8Array {
  const parts: Uint8Array[] = [];
  const pattern = /\\(?:x([0-9a-fA-F]{1,2})|([0-7]{1,3})|([\s\S]?))|[^\\]+/g;
  for (const [plain, hexadecimal, octal, other] of text.matchAll(pattern)) {
    if (hexadecimal !== undefined) parts.push(Uint8Array.of(Number.parseInt(hexadecimal, 16)));
    else if (octal !== undefined) parts.push(Uint8Array.of(Number.parseInt(octal, 8)));
    else if (other === undefined) parts.push(Buffer.from(plain));
    // A backslash at the end is a nul, as in the C tools.
    else parts.push(other === '' ? Uint8Array.of(0) : Buffer.from(escaped(other)));
  }
  return Buffer.concat(parts);
}

function escaped(character: string): Uint8Array | string {
  const byte = BYTE_OF[character];
  return byte === undefined ? character : Uint8Array.of(byte);
}

const hex = (byte: number): string => byte.toString(16).padStart(2, '0');

/** A value for a program: text where it is UTF-8, else base64. */
export function jsonValue(bytes: Uint8Array): { value: string } | { base64: string } {
  try {
    return { value: new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes) };
  } catch {
    return { base64: Buffer.from(bytes).toString('base64') };
  }
}
