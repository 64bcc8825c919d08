/** The whole built-in machine behind the SDK, with a Xen in memory. */
import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { ERRNO } from '../../../dist/abi/errno.js';
import { decode } from '../../../dist/abi/layout.js';
import * as dm from '../../../dist/abi/xen/dm-op.js';
import { buildMachine } from '../../../dist/devices/machine.js';
import { GuestVideoMemory } from '../../../dist/devices/vga/video-memory.js';
import { openDeviceModel } from '../../../dist/sdk/device-model.js';
import { FakeXen, type Post, until } from '../sdk/fake-xen.js';

const MIB = 1 << 20;
const HOME = 0xe0000n;
const VGA = 0x10n << 32n;

function setUp(homeGfn: bigint | undefined = HOME) {
  const xen = new FakeXen(1, 16, MIB / 4096);
  const model = openDeviceModel({ domid: 1, devices: xen });
  const server = model.createIoServer();
  const serial: number[] = [];
  const { machine, videoMemory } = buildMachine(model, server, { size: MIB, homeGfn }, (byte) => serial.push(byte));
  server.enable();
  model.restrict();
  const stop = new AbortController();
  const serving = server.serve(machine.handle, { signal: stop.signal, wait: 'block' });
  const access = async (post: Post) => {
    const before = xen.evtchn.notified.length;
    xen.post(0, post);
    await until(() => xen.evtchn.notified.length > before);
    return xen.finish();
  };
  const guest = {
    read: (type: number, addr: bigint, size: number) => access({ type, addr, size, isRead: true }),
    write: (type: number, addr: bigint, size: number, data: bigint) => access({ type, addr, size, data }),
  };
  const end = async () => {
    stop.abort();
    await serving;
    videoMemory.close();
    model.close();
  };
  return { xen, model, machine, videoMemory, serial, guest, end };
}

const opsOf = (xen: FakeXen, op: number) => xen.ops.filter((o) => o.op === op);

describe('machine', () => {
  it('claims its ranges', async () => {
    const { xen, end } = setUp();
    expect([...xen.ranges].sort()).toEqual(
      [
        'port cf8-cff',
        'port 3f8-3ff',
        'port 3b4-3b5',
        'port 3ba-3ba',
        'port 3c0-3cf',
        'port 3d4-3d5',
        'port 3da-3da',
        'port 1ce-1d1',
        'memory a0000-bffff',
        'pci 0-0',
        'pci 8-8',
        'pci 10-10',
      ].sort(),
    );
    await end();
    expect(xen).toMatchObject({ nrMappings: 0, serverExists: false, isPrivcmdClosed: true });
  });

  it('a guest prints on the serial port and gets an interrupt', async () => {
    const { xen, serial, guest, end } = setUp();
    await guest.write(0, 0x3fcn, 1, 8n);
    await guest.write(0, 0x3f9n, 1, 2n);
    for (const c of 'ok\n') await guest.write(0, 0x3f8n, 1, BigInt(c.charCodeAt(0)));
    expect(await guest.read(0, 0x3fan, 1)).toBe(2n);
    expect(String.fromCharCode(...serial)).toBe('ok\n');
    const levels = opsOf(xen, dm.XEN_DMOP_set_isa_irq_level).map((o) => [...o.payload.subarray(0, 2)]);
    expect(levels).toEqual([
      [4, 1],
      [4, 0],
    ]);
    await end();
  });

  it('a guest finds the devices, routes a link and asks for a reset', async () => {
    const { xen, guest, end } = setUp();
    expect(await guest.read(2, 0n, 4)).toBe(0x12378086n);
    expect(await guest.read(2, VGA, 2)).toBe(0x1234n);
    expect(await guest.read(2, (0x18n << 32n) | 0n, 4)).toBe(0xffffffffn);
    await guest.write(2, (8n << 32n) | 0x60n, 1, 11n);
    expect(opsOf(xen, dm.XEN_DMOP_set_pci_link_route)[0]?.payload.slice(0, 2)).toEqual(Uint8Array.of(0, 11));
    await guest.write(0, 0xcf9n, 1, 6n);
    expect(opsOf(xen, dm.XEN_DMOP_remote_shutdown)[0]?.payload[0]).toBe(1);
    await end();
  });

  it('8-byte accesses reach 4-byte registers, in two halves', async () => {
    const { guest, machine, end } = setUp();
    await guest.write(2, VGA | 0x18n, 4, 0xf1000000n);
    await guest.write(2, VGA | 4n, 2, 2n);
    expect(await guest.read(1, 0xf1000600n, 8)).toBe(0x1e1e1e1e_00000008n);
    await guest.write(1, 0xf1000502n, 8, (0x41n << 48n) | (8n << 32n) | (200n << 16n) | 320n);
    expect(machine.vga.display.mode()).toMatchObject({ width: 320, height: 200, bpp: 8, kind: 'linear' });
    await end();
  });

  it('the framebuffer follows its BAR through guest memory and is tracked where it is', async () => {
    const { xen, guest, machine, videoMemory, end } = setUp();
    await guest.write(2, VGA | 0x10n, 4, 0xf0000000n);
    await guest.write(2, VGA | 4n, 2, 2n);
    expect(xen.p2m.has(0xf0000n)).toBe(true);
    expect(xen.p2m.has(HOME)).toBe(false);
    const pin = opsOf(xen, dm.XEN_DMOP_pin_memory_cacheattr).map((o) =>
      decode(dm.xen_dm_op_pin_memory_cacheattr, o.payload),
    );
    expect(pin).toEqual([{ start: 0xf0000n, end: 0xf00ffn, type: 6, pad: 0 }]);
    machine.vga.refresh();
    xen.dirty = [3, 4];
    machine.vga.vbe.write(1, 1024);
    machine.vga.vbe.write(2, 256);
    machine.vga.vbe.write(3, 8);
    machine.vga.vbe.write(4, 0xc1);
    machine.vga.refresh();
    xen.dirty = [3, 4];
    expect(machine.vga.refresh()).toMatchObject({ isFull: false, rows: [{ first: 12, count: 8 }], nrDirtyPages: 2 });
    const tracked = decode(
      dm.xen_dm_op_track_dirty_vram,
      opsOf(xen, dm.XEN_DMOP_track_dirty_vram).at(-1)?.payload as Uint8Array,
    );
    expect(tracked).toEqual({ nr: 256, pad: 0, first_pfn: 0xf0000n });
    await guest.write(2, VGA | 4n, 2, 0n);
    expect(xen.p2m.has(HOME)).toBe(true);
    expect(opsOf(xen, dm.XEN_DMOP_pin_memory_cacheattr)).toHaveLength(2);
    expect((videoMemory as GuestVideoMemory).nrFailedMoves).toBe(0);
    await end();
  });

  it('a move that Xen refuses leaves the memory where it is, reachable through the aperture', async () => {
    const { xen, guest, videoMemory, end } = setUp();
    xen.failing.set(dm.XEN_DMOP_relocate_memory, ERRNO.EINVAL);
    await guest.write(2, VGA | 0x10n, 4, 0xf0000000n);
    await guest.write(2, VGA | 4n, 2, 2n);
    expect(videoMemory as GuestVideoMemory).toMatchObject({ nrFailedMoves: 1, currentGfn: HOME });
    await guest.write(1, 0xf0000010n, 4, 0xcafen);
    expect(await guest.read(1, 0xf0000010n, 2)).toBe(0xcafen);
    await end();
  });

  it('a BAR over the legacy window or over another BAR is refused, and the machine goes on', async () => {
    const { guest, machine, end } = setUp();
    await guest.write(2, VGA | 0x18n, 4, 0xa0000n);
    await guest.write(2, VGA | 4n, 2, 2n);
    expect(machine.bus.nrRefused).toBe(1);
    await guest.write(2, VGA | 0x10n, 4, 0xf0000000n);
    await guest.write(2, VGA | 0x18n, 4, 0xf0000000n);
    expect(machine.bus.nrRefused).toBe(2);
    await guest.write(2, VGA | 0x18n, 4, 0xe0000000n);
    expect(await guest.read(1, 0xe0000500n, 2)).toBe(0xb0c5n);
    await end();
  });

  it('fails to be built where the domain may not have the video memory', () => {
    const xen = new FakeXen(1, 16, MIB / 4096);
    xen.populateLimit = 10;
    const model = openDeviceModel({ domid: 1, devices: xen });
    expect(() => new GuestVideoMemory(model, HOME, MIB)).toThrow(/ENOMEM/);
  });
});

describe('the process', () => {
  const main = fileURLToPath(new URL('../../../dist/devices/main.js', import.meta.url));
  const run = (...args: string[]) => {
    const env = { ...process.env };
    delete env.POSTERN_HOST;
    return spawnSync(process.execPath, [main, ...args], { encoding: 'utf8', env });
  };

  it.each([
    [[], 2, /--domid is missing/],
    [['--domid', 'x'], 2, /--domid: 'x' is not a number from 0 to 32751/],
    [['--domid', '1', '--vram', '3'], 2, /--vram: not a power of two/],
    [['--nonsense'], 2, /nonsense/],
    [['--domid', '1'], 1, /POSTERN_HOST/],
    [['--domid', '1', '--host', '/nonexistent/socket'], 1, /nonexistent/],
  ])('%j ends with status %i and says why', (args, status, message) => {
    const result = run(...args);
    expect(result.stderr).toMatch(message);
    expect(result.status).toBe(status);
  });

  it('explains itself', () => {
    const result = run('--help');
    expect(result).toMatchObject({ status: 0, stderr: '' });
    expect(result.stdout).toMatch(/^Usage:/);
  });
});
