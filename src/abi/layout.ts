/**
 * Layouts as values: one declaration gives a C struct's TypeScript type, size, field offsets and codec.
 *
 * Rules are those of the x86-64 System V ABI, which is what Xen's public headers are compiled with: natural alignment,
 * little endian. `test/conformance/layouts` compiles every declaration against the real headers.
 *
 * Trusts nobody: reading never interprets a value, it only decodes; bounds are those of the DataView it is given.
 */

/** How to decode and encode one C type. Sizes, alignments and offsets are in bytes. */
export interface Layout<T> {
  readonly size: number;
  readonly align: number;
  read(view: DataView, offset: number): T;
  write(view: DataView, offset: number, value: T): void;
}

/** The TypeScript type that a layout decodes to. */
export type TypeOf<L> = L extends Layout<infer T> ? T : never;

/** A struct or union field: where it lies and how it is decoded. */
export interface Field<T> {
  readonly offset: number;
  readonly layout: Layout<T>;
  get(view: DataView, base: number): T;
  set(view: DataView, base: number, value: T): void;
}

type Shape = Readonly<Record<string, Layout<unknown>>>;
// biome-ignore lint/suspicious/noExplicitAny: a shape's layouts are heterogeneous and Layout is invariant in T
type AnyShape = Readonly<Record<string, Layout<any>>>;
export type ValueOf<F extends AnyShape> = { -readonly [K in keyof F]: TypeOf<F[K]> };

/** A C struct or union. `cName` is its name in the real header, for the header test. */
export interface StructLayout<F extends AnyShape> extends Layout<ValueOf<F>> {
  readonly cName: string;
  readonly fields: { readonly [K in keyof F]: Field<TypeOf<F[K]>> };
}

function scalar<T>(
  size: number,
  read: (view: DataView, offset: number) => T,
  write: (view: DataView, offset: number, value: T) => void,
): Layout<T> {
  return { size, align: size, read, write };
}

export const u8 = scalar<number>(
  1,
  (v, o) => v.getUint8(o),
  (v, o, x) => v.setUint8(o, x),
);
export const s8 = scalar<number>(
  1,
  (v, o) => v.getInt8(o),
  (v, o, x) => v.setInt8(o, x),
);
export const u16 = scalar<number>(
  2,
  (v, o) => v.getUint16(o, true),
  (v, o, x) => v.setUint16(o, x, true),
);
export const s16 = scalar<number>(
  2,
  (v, o) => v.getInt16(o, true),
  (v, o, x) => v.setInt16(o, x, true),
);
export const u32 = scalar<number>(
  4,
  (v, o) => v.getUint32(o, true),
  (v, o, x) => v.setUint32(o, x, true),
);
export const s32 = scalar<number>(
  4,
  (v, o) => v.getInt32(o, true),
  (v, o, x) => v.setInt32(o, x, true),
);
/** 64-bit values stay exact: a hostile caller may send any of them. */
export const u64 = scalar<bigint>(
  8,
  (v, o) => v.getBigUint64(o, true),
  (v, o, x) => v.setBigUint64(o, x, true),
);
export const s64 = scalar<bigint>(
  8,
  (v, o) => v.getBigInt64(o, true),
  (v, o, x) => v.setBigInt64(o, x, true),
);
/** A guest handle (64-bit build), exact. */
export const pointer = u64;
/**
 * A 64-bit address or size as a double: exact below 2^53. Values above may round, but never to below 2^53, so a bound
 * such as the end of user space refuses them all the same; what passes the bound is exact.
 */
export const address = scalar<number>(
  8,
  (v, o) => v.getUint32(o + 4, true) * 0x1_0000_0000 + v.getUint32(o, true),
  (v, o, x) => {
    v.setUint32(o, x % 0x1_0000_0000, true);
    v.setUint32(o + 4, Math.floor(x / 0x1_0000_0000), true);
  },
);

/** A C array of `length` elements. */
export function array<T>(element: Layout<T>, length: number): Layout<T[]> {
  return {
    size: element.size * length,
    align: element.align,
    read(view, offset) {
      return Array.from({ length }, (_, i) => element.read(view, offset + i * element.size));
    },
    write(view, offset, value) {
      for (let i = 0; i < length; i++) element.write(view, offset + i * element.size, value[i] as T);
    },
  };
}

/** `length` raw bytes; reading copies them. */
export function bytes(length: number): Layout<Uint8Array> {
  return {
    size: length,
    align: 1,
    read: (view, offset) => new Uint8Array(view.buffer, view.byteOffset + offset, length).slice(),
    write: (view, offset, value) => {
      new Uint8Array(view.buffer, view.byteOffset + offset, length).set(value.subarray(0, length));
    },
  };
}

function alignUp(offset: number, align: number): number {
  return Math.ceil(offset / align) * align;
}

function field<T>(layout: Layout<T>, offset: number): Field<T> {
  return {
    offset,
    layout,
    get: (view, base) => layout.read(view, base + offset),
    set: (view, base, value) => layout.write(view, base + offset, value),
  };
}

function aggregate<F extends AnyShape>(cName: string, shape: F, isUnion: boolean, minAlign: number): StructLayout<F> {
  let end = 0;
  let align = minAlign;
  const fields: Record<string, Field<unknown>> = {};
  for (const [name, layout] of Object.entries(shape as Shape)) {
    const offset = isUnion ? 0 : alignUp(end, layout.align);
    fields[name] = field(layout, offset);
    end = Math.max(end, offset + layout.size);
    align = Math.max(align, layout.align);
  }
  const list = Object.entries(fields);
  return {
    cName,
    size: alignUp(end, align),
    align,
    fields: fields as StructLayout<F>['fields'],
    read(view, base) {
      const value: Record<string, unknown> = {};
      for (const [name, f] of list) value[name] = f.get(view, base);
      return value as ValueOf<F>;
    },
    write(view, base, value) {
      for (const [name, f] of list) f.set(view, base, (value as Record<string, unknown>)[name]);
    },
  };
}

/**
 * A C struct: fields in order with natural alignment and padding.
 * @param minAlign raises the alignment, for structs with `uint64_aligned_t` members on a narrower base
 */
export function struct<F extends AnyShape>(cName: string, shape: F, minAlign = 1): StructLayout<F> {
  return aggregate(cName, shape, false, minAlign);
}

/** A C union: every field at offset 0. Use its fields one by one; `read` decodes all of them. */
export function union<F extends AnyShape>(cName: string, shape: F, minAlign = 1): StructLayout<F> {
  return aggregate(cName, shape, true, minAlign);
}

/** Encodes a value into fresh zeroed bytes of the layout's size: padding is always zero. */
export function encode<T>(layout: Layout<T>, value: T): Uint8Array {
  const out = new Uint8Array(layout.size);
  layout.write(new DataView(out.buffer), 0, value);
  return out;
}

/** Decodes a value from the start of `from`, which must hold at least the layout's size. */
export function decode<T>(layout: Layout<T>, from: Uint8Array): T {
  return layout.read(new DataView(from.buffer, from.byteOffset, from.byteLength), 0);
}
