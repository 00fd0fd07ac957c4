/**
 * Preloaded into a process (`node --import`): its connections to some ports go to others instead. A broker tells its clients an
 * advertised address, so naming a proxy as the broker is not enough to stand between the two.
 *
 * FAULT_REDIRECT=9092:40001,9093:40002
 */
import net from "node:net";

const ports = new Map(process.env["FAULT_REDIRECT"].split(",").map((pair) => pair.split(":").map(Number)));
const connect = net.connect;

net.connect = (options, ...rest) => connect(redirected(options), ...rest);

function redirected(options) {
  const port = typeof options === "object" ? ports.get(Number(options.port)) : undefined;
  return port === undefined ? options : { ...options, port };
}
