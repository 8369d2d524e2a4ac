// A certified OpenID provider (npm oidc-provider) on one loopback port, for tests.
//
// `clients.json` of its folder says who may use it, `keys.json` keeps its signing keys. Anybody may
// log in under any name with any password on its own two pages (login, consent): what is tested is
// the protocol. Sessions and tokens are in memory, so a restart logs everybody out.
import { readFileSync } from "node:fs";
import Provider from "oidc-provider";

const [folder, port] = process.argv.slice(2);
const read = (name) => JSON.parse(readFileSync(`${folder}/${name}`, "utf8"));
const minutes = (count) => count * 60;

const provider = new Provider(`http://127.0.0.1:${port}`, {
  clients: read("clients.json"),
  jwks: { keys: read("keys.json") },
  cookies: { keys: [read("credentials.json").cookie_key] },
  scopes: ["openid", "profile", "email", "offline_access"],
  claims: {
    openid: ["sub"],
    profile: ["name", "given_name", "family_name", "preferred_username"],
    email: ["email", "email_verified"],
  },
  conformIdTokenClaims: false,
  pkce: { required: () => true },
  rotateRefreshToken: true,
  issueRefreshToken: async (context, client) => client.grantTypeAllowed("refresh_token"),
  findAccount: async (context, id) => ({
    accountId: id,
    claims: async () => ({
      sub: id,
      preferred_username: id,
      name: `${id} Tester`,
      given_name: id,
      family_name: "Tester",
      email: `${id}@users.example.org`,
      email_verified: true,
    }),
  }),
  ttl: {
    AccessToken: minutes(15),
    DeviceCode: minutes(10),
    Grant: minutes(600),
    IdToken: minutes(15),
    Interaction: minutes(60),
    RefreshToken: minutes(600),
    Session: minutes(600),
  },
  features: {
    devInteractions: { enabled: true },
    deviceFlow: { enabled: true },
    clientCredentials: { enabled: true },
    introspection: { enabled: true },
    revocation: { enabled: true },
    rpInitiatedLogout: { enabled: true },
    // Access tokens as JWTs (RFC 9068) for the client that asked: what a resource server can check.
    resourceIndicators: {
      enabled: true,
      defaultResource: async () => "urn:cafe-variome:test",
      useGrantedResource: async () => true,
      getResourceServerInfo: async (context, resource, client) => ({
        scope: "openid profile email offline_access",
        audience: client.clientId,
        accessTokenFormat: "jwt",
        accessTokenTTL: minutes(15),
        jwt: { sign: { alg: "RS256" } },
      }),
    },
  },
});

// There is nothing to keep, so nobody is waited for.
process.on("SIGTERM", () => process.exit(0));
provider.listen(Number(port), "127.0.0.1");
