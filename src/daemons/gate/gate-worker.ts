/**
 * `postern gate`'s thread: one gate, its socket for the device model, and its way to XenStore: the daemon's socket,
 * /dev/xen/xenbus, or that of an embedded host.
 */
import { randomInt } from 'node:crypto';
import { lstatSync, rmSync } from 'node:fs';
import { type GateConnection, GateSocket } from '../../host/gate-socket.js';
import { deviceFile, FileUpstream, openUpstream, type UpstreamFile } from '../../host/gate-upstream-file.js';
import { libc, SOCK_STREAM, SystemError } from '../../host/libc.js';
import { UserError } from '../../host/native-library.js';
import { serveReactor } from '../../host/reactor-worker.js';
import { connectUnix } from '../../host/unix-socket.js';
import { HostClient } from '../../sdk/host-client.js';
import { XenDeviceError } from '../../sdk/xen-devices.js';
import { BoundPolicy } from '../../xenstore/gate/bound-policy.js';
import type { GateRecord } from '../../xenstore/gate/denials.js';
import { Gate } from '../../xenstore/gate/gate.js';
import { checkPolicy } from '../../xenstore/gate/policy.js';
import { COUNTS, type GateDaemonInfo, type GateDaemonOptions } from './options.js';
import { GateTrace } from './trace-file.js';

serveReactor<GateDaemonOptions>((options, reactor) => {
  const open = upstreamOf(options);
  checkUpstream(open, options);
  removeLeftOver(options.path);
  const trace = options.trace === undefined ? undefined : new GateTrace(options.trace);
  reactor.onIdle = () => trace?.flush();
  const policy = new BoundPolicy(checkPolicy(options.policy), { domid: options.domid, dm: options.dm });
  const host = { now: () => performance.now(), trace: trace && ((record: GateRecord) => trace.write(record)) };
  const gate = new Gate(policy, host, randomInt(2 ** 32));
  const connect = (connection: GateConnection) => new FileUpstream(connection, open);
  const { path, mode, uid, gid } = options;
  const socket = new GateSocket(reactor, gate, {
    path,
    mode,
    connect,
    ...(uid !== undefined && { uid }),
    ...(gid !== undefined && { gid }),
  });
  return {
    info: { path } satisfies GateDaemonInfo,
    command(name, _, done) {
      if (name !== COUNTS) throw new UserError(`there is no command ${name}`);
      done(gate.counts());
    },
    close() {
      socket.close();
      rmSync(path, { force: true });
      trace?.close();
    },
  };
});

/** Said now rather than to the first client: that there is nobody. */
function checkUpstream(open: () => UpstreamFile, { upstream, host }: GateDaemonOptions): void {
  try {
    open().close();
  } catch (error) {
    if (!(error instanceof SystemError)) throw error;
    throw new UserError(
      host === undefined
        ? `there is no XenStore at ${upstream} (${error.message}); start one (postern xenstored --socket PATH), ` +
            'or say where it is: --upstream PATH'
        : `the host at ${host} has no xenbus (${error.message}); start one with: postern host --socket ${host}`,
    );
  }
}

function upstreamOf({ upstream, host }: GateDaemonOptions): () => UpstreamFile {
  if (host === undefined) return () => openUpstream(upstream);
  return () => {
    const fd = xenbusOf(host);
    return deviceFile(fd, () => libc.close(fd));
  };
}

/** @throws SystemError */
function xenbusOf(host: string): number {
  try {
    const client = new HostClient(host);
    try {
      return client.openHanded('xenbus');
    } finally {
      client.close();
    }
  } catch (error) {
    if (error instanceof XenDeviceError) throw new SystemError('open', error.errno, error.message);
    throw error;
  }
}

/** A socket that a killed gate has left is taken over; one that answers, or another kind of file, is not. */
function removeLeftOver(path: string): void {
  const found = lstatSync(path, { throwIfNoEntry: false });
  if (found === undefined) return;
  if (!found.isSocket()) throw new UserError(`${path} is there, and no socket`);
  try {
    libc.close(connectUnix(path, SOCK_STREAM));
  } catch (error) {
    if (!(error instanceof SystemError)) throw error;
    rmSync(path, { force: true });
    return;
  }
  throw new UserError(`a gate is running at ${path} already`);
}
