// Sockets of the npm package `zeromq`, driven by lines: `node peer.js`, with the package in NODE_PATH. See
// `tests/others/__init__.py`.

"use strict"

const readline = require("node:readline")
const zmq = require("zeromq")

const TYPES = {
  PUB: zmq.Publisher,
  SUB: zmq.Subscriber,
  XPUB: zmq.XPublisher,
  XSUB: zmq.XSubscriber,
  REQ: zmq.Request,
  REP: zmq.Reply,
  PUSH: zmq.Push,
  PULL: zmq.Pull,
  DEALER: zmq.Dealer,
  ROUTER: zmq.Router,
}

const OPTIONS = {
  sndhwm: ["sendHighWaterMark", Number],
  rcvhwm: ["receiveHighWaterMark", Number],
  sndtimeo: ["sendTimeout", Number],
  router_mandatory: ["mandatory", (value) => value !== "0"],
}

const NOT_NOW = ["EAGAIN", "EHOSTUNREACH"]

const sockets = new Map()

const frameOf = (word) => (word === "-" ? Buffer.alloc(0) : Buffer.from(word, "hex"))
const wordOf = (frame) => frame.toString("hex") || "-"

// What a call gives, or null if it cannot be carried out now.
async function unlessNotNow(call) {
  try {
    return await call()
  } catch (error) {
    if (!NOT_NOW.includes(error.code)) throw error
    return null
  }
}

const COMMANDS = {
  version: () => `version ${require("zeromq/package.json").version}, libzmq ${zmq.version}`,
  socket: (number, kind, ...options) => {
    const socket = new TYPES[kind]()
    sockets.set(number, socket)
    for (const option of options) {
      const [name, value] = option.split("=")
      const [property, convert] = OPTIONS[name]
      // A socket has the properties of its type only: a PUSH has no receiveHighWaterMark.
      if (property in socket) socket[property] = convert(value)
    }
    return "ok"
  },
  connect: (number, endpoint) => {
    sockets.get(number).connect(endpoint)
    return "ok"
  },
  subscribe: (number, topic) => {
    sockets.get(number).subscribe(frameOf(topic))
    return "ok"
  },
  unsubscribe: (number, topic) => {
    sockets.get(number).unsubscribe(frameOf(topic))
    return "ok"
  },
  send: async (number, ...words) => {
    const sent = await unlessNotNow(async () => {
      await sockets.get(number).send(words.map(frameOf))
      return true
    })
    return sent ? "ok" : "no"
  },
  receive: async (number, time) => {
    const socket = sockets.get(number)
    socket.receiveTimeout = Number(time)
    const frames = await unlessNotNow(() => socket.receive())
    return frames === null ? "no" : ["message", ...frames.map(wordOf)].join(" ")
  },
  close: (number, linger) => {
    const socket = sockets.get(number)
    sockets.delete(number)
    socket.linger = Number(linger)
    socket.close()
    return "ok"
  },
}

async function main() {
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const [command, ...words] = line.split(" ")
    let answer
    try {
      answer = await COMMANDS[command](...words)
    } catch (error) {
      answer = `error ${command}: ${error}`.replaceAll("\n", " ")
    }
    process.stdout.write(`${answer}\n`)
  }
  process.exit(0)
}

main()
