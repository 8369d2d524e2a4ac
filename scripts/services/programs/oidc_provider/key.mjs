// Prints one new signing key as a list of JWKs.
import { generateKeyPairSync, randomUUID } from "node:crypto";

const { privateKey } = generateKeyPairSync("rsa", { modulusLength: 2048 });
const key = privateKey.export({ format: "jwk" });
console.log(JSON.stringify([{ ...key, kid: randomUUID(), alg: "RS256", use: "sig" }]));
