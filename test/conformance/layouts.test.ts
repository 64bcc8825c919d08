/**
 * The abi layer against Xen's real headers: every exported struct, every exported number. Nothing is believed because it
 * was copied carefully: the declarations become static assertions, and a C compiler judges them.
 */
import { readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { beforeAll, describe, expect, it } from 'vitest';

import { struct, u8, u32 } from '../../dist/abi/layout.js';
import { buildFolder, cCompiler, compileOnly, definedMacros } from '../support/compile-c.js';
import { constantAssertion, isStruct, sourceOf, structAssertions } from './header-assertions.js';

const ABI = fileURLToPath(new URL('../../dist/abi/', import.meta.url));

/** Members that C cannot name the offset of. */
const BITFIELDS = new Map([['ioreq.flags', 'state, data_is_ptr, dir and df are bitfields of one byte']]);

/** Objects whose keys are the tail of a header's macro names. */
const FAMILIES: Readonly<Record<string, string>> = {
  XEN_DOMCTL: 'XEN_DOMCTL_',
  XEN_SYSCTL: 'XEN_SYSCTL_',
  EVTCHNOP: 'EVTCHNOP_',
  GNTTABOP: 'GNTTABOP_',
  HVMOP: 'HVMOP_',
  XENMEM: 'XENMEM_',
  SCHEDOP: 'SCHEDOP_',
  XENFEAT: 'XENFEAT_',
  XENVER: 'XENVER_',
  HYPERVISOR: '__HYPERVISOR_',
  ERRNO: '',
};

/** Numbers that the headers spell as enumerators, which the preprocessor does not know. */
const ENUMERATORS = [/^HVMMEM_(ram_rw|ram_ro|mmio_dm|unused|ioreq_server)$/, /^XS_/];

/** Numbers with no counterpart in Xen 4.17's headers, and why. */
const NOT_IN_HEADERS = new Map([
  ['IOREQ_STATE_WORD', 'where the bitfields of ioreq lie; C has no name for it'],
  ['IOREQ_STATE_MASK', 'where the bitfields of ioreq lie; C has no name for it'],
  ['IOREQ_STATE_SHIFT', 'where the bitfields of ioreq lie; C has no name for it'],
  ['PAGE_SHIFT', "Xen's own header, not a public one"],
  ['PAGE_SIZE', "Xen's own header, not a public one"],
  ['EVTCHNOP_reset_cont', 'Xen continues a reset under this number; guests may not use it'],
  ['HVMOP_set_pci_intx_level', 'the headers hide it since 4.9: dm_op took over'],
  ['HVMOP_set_isa_irq_level', 'the headers hide it since 4.9: dm_op took over'],
  ['HVMOP_set_pci_link_route', 'the headers hide it since 4.9: dm_op took over'],
  ['MEMOP_CMD_MASK', "Xen's own header, not a public one"],
  ['MEMOP_EXTENT_SHIFT', "Xen's own header, not a public one"],
  ['XENMEMF_address_bits_mask', 'the headers shift it into a macro with an argument'],
  ['XEN_COMMANDLINE_LEN', 'the headers give it as an array type'],
  ['XENSTORE_SERVER_FEATURE_WATCHDEPTH', 'later than 4.17'],
  ['XS_HEADER_SIZE', 'sizeof(struct xsd_sockmsg)'],
  ['XS_RESTRICT', 'removed from the headers in 2017'],
  ['XS_TYPE_COUNT', 'counts the types that came after 4.17'],
  ['XS_GET_FEATURE', 'later than 4.17'],
  ['XS_SET_FEATURE', 'later than 4.17'],
  ['XS_GET_QUOTA', 'later than 4.17'],
  ['XS_SET_QUOTA', 'later than 4.17'],
]);

interface Found {
  readonly structs: Map<string, string[]>;
  readonly constants: Map<string, number | bigint>;
}

function collect(found: Found, name: string, value: unknown): void {
  if (typeof value === 'number' || typeof value === 'bigint') {
    if (/^[A-Z_]/.test(name)) found.constants.set(name, value);
  } else if (isStruct(value)) {
    found.structs.set(value.cName, structAssertions(value, BITFIELDS));
  } else if (typeof value === 'object' && value !== null && 'cName' in value && 'size' in value) {
    const { cName, size } = value as { cName: string; size: number };
    found.structs.set(cName, [`_Static_assert(sizeof(struct ${cName}) == ${size}, "size of struct ${cName}");`]);
  } else if (typeof value === 'object' && value !== null && name in FAMILIES) {
    for (const [key, number] of Object.entries(value)) found.constants.set(`${FAMILIES[name]}${key}`, number as number);
  }
}

async function collectAll(): Promise<Found> {
  const found: Found = { structs: new Map(), constants: new Map() };
  for (const folder of ['.', 'xen', 'linux']) {
    for (const file of readdirSync(join(ABI, folder)).filter((name) => name.endsWith('.js'))) {
      const module = (await import(pathToFileURL(join(ABI, folder, file)).href)) as Record<string, unknown>;
      for (const [name, value] of Object.entries(module)) collect(found, name, value);
    }
  }
  return found;
}

function compile(name: string, lines: readonly string[]): { ok: boolean; messages: string; path: string } {
  const path = join(buildFolder(), `${name}.c`);
  writeFileSync(path, sourceOf(lines));
  return compileOnly(path);
}

describe.skipIf(!cCompiler.ok)(cCompiler.named('abi declarations against the headers of libxen-dev'), () => {
  let found: Found;
  beforeAll(async () => {
    found = await collectAll();
  });

  it('finds what the layers export', () => {
    expect(found.structs.size).toBeGreaterThan(60);
    expect(found.constants.size).toBeGreaterThan(200);
    expect(found.structs.has('xen_dm_op')).toBe(true);
  });

  it('has the size and the offsets of every struct', () => {
    const result = compile('structs', [...found.structs.values()].flat());
    expect(result.messages).toBe('');
    expect(result.ok).toBe(true);
  });

  it('has the value of every constant, and knows which the headers lack', () => {
    const macros = definedMacros(compile('macros', []).path);
    const inHeaders: string[] = [];
    const unknown: string[] = [];
    for (const [name, value] of found.constants) {
      if (NOT_IN_HEADERS.has(name)) continue;
      const known = macros.has(name) || ENUMERATORS.some((pattern) => pattern.test(name));
      if (known) inHeaders.push(constantAssertion(name, value));
      else unknown.push(name);
    }
    expect(unknown, 'neither in the headers nor in NOT_IN_HEADERS').toEqual([]);
    expect([...NOT_IN_HEADERS.keys()].filter((name) => macros.has(name))).toEqual([]);
    const result = compile('constants', inHeaders);
    expect(result.messages).toBe('');
    expect(result.ok).toBe(true);
  });

  it('fails on a wrong layout and on a wrong number', () => {
    const swapped = struct('xen_dm_op_set_ioreq_server_state', { enabled: u8, id: u8, pad: u8 });
    const longer = struct('xen_dm_op_nr_vcpus', { vcpus: u32, more: u32 });
    for (const wrong of [swapped, longer]) expect(compile('wrong', structAssertions(wrong)).ok).toBe(false);
    expect(compile('wrong-number', [constantAssertion('XEN_DMOP_nr_vcpus', 19)]).ok).toBe(false);
    expect(compile('right-number', [constantAssertion('XEN_DMOP_nr_vcpus', 20)]).ok).toBe(true);
  });
});
