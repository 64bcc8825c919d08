/**
 * Turns the abi layer's declarations into a C file of static assertions: compiled against Xen's own headers, it fails
 * wherever a size, an offset or a number here is not the header's.
 */
import type { Layout, StructLayout } from '../../dist/abi/layout.js';

// biome-ignore lint/suspicious/noExplicitAny: any struct's shape
export type AnyStruct = StructLayout<any>;

/** xenctrl.h comes first: it sets up the types that the public headers use. */
export const HEADERS = [
  'xenctrl.h',
  'xen/hvm/dm_op.h',
  'xen/hvm/hvm_op.h',
  'xen/hvm/ioreq.h',
  'xen/hvm/params.h',
  'xen/memory.h',
  'xen/event_channel.h',
  'xen/grant_table.h',
  'xen/sched.h',
  'xen/version.h',
  'xen/features.h',
  'xen/domctl.h',
  'xen/sysctl.h',
  'xenstore_lib.h',
  'xen/io/xs_wire.h',
  'xen/io/ring.h',
  'xen/io/blkif.h',
  'xen/sys/privcmd.h',
  'xen/sys/evtchn.h',
  'xen/sys/gntdev.h',
  'xen/sys/gntalloc.h',
  'errno.h',
  'sys/ioctl.h',
];

export function isStruct(value: unknown): value is AnyStruct {
  return typeof value === 'object' && value !== null && 'cName' in value && 'fields' in value && 'size' in value;
}

/** A declared struct's C type: a dotted name is an unnamed member, reached through the struct that holds it. */
function cType(layout: AnyStruct): string {
  return `struct ${layout.cName}`;
}

interface Assertions {
  readonly lines: string[];
  readonly skip: ReadonlyMap<string, string>;
}

function assertFields(out: Assertions, root: string, layout: AnyStruct, base: number, path: string): void {
  for (const [name, field] of Object.entries(layout.fields) as [
    string,
    { offset: number; layout: Layout<unknown> },
  ][]) {
    if (out.skip.has(`${layout.cName}.${name}`)) continue;
    const member = path === '' ? name : `${path}.${name}`;
    const offset = base + field.offset;
    const text = `${root} ${member}`;
    out.lines.push(
      `_Static_assert(__builtin_offsetof(${root}, ${member}) == ${offset}, "offset of ${text} is not ${offset}");`,
      `_Static_assert(sizeof(((${root} *)0)->${member}) == ${field.layout.size}, "size of ${text} is not ${field.layout.size}");`,
    );
    if (isStruct(field.layout)) assertFields(out, root, field.layout, offset, member);
  }
}

/** Asserts a struct's size and all its fields, nested ones too. `skip` names fields as `cName.field`. */
export function structAssertions(layout: AnyStruct, skip: ReadonlyMap<string, string> = new Map()): string[] {
  if (layout.cName.includes('.')) return [];
  const out: Assertions = { lines: [], skip };
  const type = cType(layout);
  out.lines.push(`_Static_assert(sizeof(${type}) == ${layout.size}, "size of ${type} is not ${layout.size}");`);
  assertFields(out, type, layout, 0, '');
  return out.lines;
}

/** Asserts that a number is the header's of the same name. */
export function constantAssertion(name: string, value: number | bigint): string {
  const bits = BigInt.asUintN(64, BigInt(value));
  return `_Static_assert((unsigned long long)(${name}) == ${bits}ull, "${name} is not ${value}");`;
}

/** The whole C file. */
export function sourceOf(lines: readonly string[]): string {
  const includes = HEADERS.map((header) => `#include <${header}>`);
  return ['#include <stdint.h>', '#define __XEN_TOOLS__ 1', ...includes, ...lines, ''].join('\n');
}
