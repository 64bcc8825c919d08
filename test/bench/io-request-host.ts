/**
 * A host with a restricted QEMU, for io-request.ts: a process of its own, so that it can be stopped as a whole while the
 * C host plays. Told what to do over Node's channel, ends with it; descriptor 4 is the
 * C host's.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { fstatSync, readdirSync, readlinkSync } from 'node:fs';
import { Host } from '../../dist/host/host.js';
import { nativeLibrary } from '../../dist/host/native-library.js';
import { findQemu, startQemu, VIDEO_MIB } from '../../dist/toolstack/qemu.js';

export interface Order {
  readonly play: number;
}
export type Report =
  | { readonly kind: 'ready'; readonly qemu: number; readonly cHost: number }
  | { readonly kind: 'played'; readonly p50: number; readonly p99: number }
  | { readonly kind: 'failed'; readonly message: string };

const DOMID = 1;
const MEMORY_MIB = 48;
const C_HOST_CHANNEL = 4;
const SERVER_PAGES_BYTES = 8192;

const report = (message: Report): void => void process.send?.(message);

/** The pages of the one ioreq server: they are a memory file of their own. */
function serverPages(): number {
  const found = readdirSync('/proc/self/fd').filter((fd) => {
    try {
      const isOurs = readlinkSync(`/proc/self/fd/${fd}`).startsWith('/memfd:postern-guest');
      return isOurs && fstatSync(Number(fd)).size === SERVER_PAGES_BYTES;
    } catch {
      return false; // the descriptor that lists the folder
    }
  });
  if (found.length !== 1) throw new Error(`${found.length} memory files could be the server's pages`);
  return Number(found[0]);
}

/** The C host gets the very descriptors of this one. */
async function startCHost(host: Host, qemu: number, program: string): Promise<ChildProcess> {
  const files = await host.command('openFiles', null);
  const evtchn = files.find((file) => file.pid === qemu && file.device === 'evtchn');
  const bell = evtchn?.doorbells[0]; // vCPU 0's is the first that QEMU binds
  if (!evtchn || !bell) throw new Error('QEMU has no doorbell');
  const stdio = [C_HOST_CHANNEL, C_HOST_CHANNEL, 'inherit', serverPages(), evtchn.connection, bell.fd] as const;
  return spawn(program, [String(bell.port)], { stdio: [...stdio] });
}

async function play(host: Host, count: number): Promise<void> {
  const script = `outb 0x3ff 0x5a\nrepeat ${count} { inb 0x3ff == 0x5a }`;
  const { failures, requests } = await host.command('io', { domid: DOMID, vcpu: 0, script, json: false });
  if (failures > 0) throw new Error(`${failures} reads did not give what was written`);
  // The unmasking of the last event may be on its way still, and would be lost to this host where the C host took it:
  // by the second command's answer, everything that had come before the first one's is done.
  for (let i = 0; i < 2; i++) await host.command('listDomains', null);
  report({ kind: 'played', p50: requests.p50Us, p99: requests.p99Us });
}

async function main(cHostProgram: string): Promise<void> {
  const binary = await findQemu();
  if (binary === undefined) throw new Error('no QEMU with Xen support (Debian: apt-get install qemu-system-xen)');
  const host = await Host.start({ domains: [{ kind: 'hvm', memoryMiB: MEMORY_MIB, vcpus: 1, deviceMiB: VIDEO_MIB }] });
  const environment = host.environment(await nativeLibrary());
  const { directory } = host;
  const name = 'bench';
  const qemu = await startQemu({
    ...{ binary, domid: DOMID, name, memoryMiB: MEMORY_MIB, directory, environment },
    onMessage: () => {},
  });
  let cHost: ChildProcess | undefined;
  const end = async (): Promise<never> => {
    if (cHost?.kill('SIGKILL')) await once(cHost, 'exit');
    await qemu.stop();
    await host.close();
    process.exit();
  };
  process.on('message', async (order: Order) => {
    await play(host, order.play).catch((error: Error) => report({ kind: 'failed', message: error.message }));
  });
  process.on('disconnect', () => void end());
  try {
    await qemu.qmp.execute('cont');
    await host.command('unpauseDomain', { domid: DOMID });
    cHost = await startCHost(host, qemu.pid, cHostProgram);
    report({ kind: 'ready', qemu: qemu.pid, cHost: cHost.pid as number });
  } catch (error) {
    report({ kind: 'failed', message: (error as Error).message });
    await end();
  }
}

main(process.argv[2] as string).catch((error: Error) => report({ kind: 'failed', message: error.message }));
