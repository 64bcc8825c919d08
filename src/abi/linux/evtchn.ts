/** Linux's /dev/xen/evtchn. @spec linux:uapi/xen/evtchn.h */
import { struct, u16, u32 } from '../layout.js';
import { ioctlNone } from './ioctl.js';

export const ioctlEvtchnBindVirq = struct('struct ioctl_evtchn_bind_virq', { virq: u32 });
export const ioctlEvtchnBindInterdomain = struct('struct ioctl_evtchn_bind_interdomain', {
  remote_domain: u32,
  remote_port: u32,
});
export const ioctlEvtchnBindUnboundPort = struct('struct ioctl_evtchn_bind_unbound_port', { remote_domain: u32 });
export const ioctlEvtchnUnbind = struct('struct ioctl_evtchn_unbind', { port: u32 });
export const ioctlEvtchnNotify = struct('struct ioctl_evtchn_notify', { port: u32 });
export const ioctlEvtchnRestrictDomid = struct('struct ioctl_evtchn_restrict_domid', { domid: u16 });

export const IOCTL_EVTCHN_BIND_VIRQ = ioctlNone('E', 0, ioctlEvtchnBindVirq.size);
export const IOCTL_EVTCHN_BIND_INTERDOMAIN = ioctlNone('E', 1, ioctlEvtchnBindInterdomain.size);
export const IOCTL_EVTCHN_BIND_UNBOUND_PORT = ioctlNone('E', 2, ioctlEvtchnBindUnboundPort.size);
export const IOCTL_EVTCHN_UNBIND = ioctlNone('E', 3, ioctlEvtchnUnbind.size);
export const IOCTL_EVTCHN_NOTIFY = ioctlNone('E', 4, ioctlEvtchnNotify.size);
export const IOCTL_EVTCHN_RESET = ioctlNone('E', 5, 0);
export const IOCTL_EVTCHN_RESTRICT_DOMID = ioctlNone('E', 6, ioctlEvtchnRestrictDomid.size);
