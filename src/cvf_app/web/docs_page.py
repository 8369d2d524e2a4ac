"""The documentation page: Swagger UI over our own description, without a foreign host.

The page is static text. Its script asks this instance where to log in, so that the one
page fits every instance; scripts come from this instance alone (`CONTENT_SECURITY`).
"""

# Swagger UI sets style attributes, hence unsafe-inline for styles and for nothing else.
CONTENT_SECURITY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)

PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Cafe Variome 3: interface</title>
<link rel="stylesheet" href="/docs/swagger-ui.css">
<link rel="stylesheet" href="/docs/index.css">
<link rel="icon" type="image/png" href="/docs/favicon-32x32.png" sizes="32x32">
</head>
<body>
<main id="page"></main>
<noscript>
This page needs JavaScript. The description itself is at /openapi/openapi-all.json.
</noscript>
<script src="/docs/swagger-ui-bundle.js"></script>
<script src="/docs/start.js"></script>
</body>
</html>
"""

# The provider's address stands in /config/keycloak; Swagger UI sends forms to the token
# address, which takes JSON; a nonce is made for every page.
START = """'use strict';
const hex = (byte) => byte.toString(16).padStart(2, '0');
const random = () => Array.from(crypto.getRandomValues(new Uint8Array(16)), hex).join('');
const fetchJson = async (address) => {
  const response = await fetch(address);
  if (!response.ok) throw new Error(address + ' answered ' + response.status);
  return response.json();
};
const start = async () => {
  const spec = await fetchJson('/openapi/openapi-all.json');
  const provider = await fetchJson('/config/keycloak').catch(() => null);
  const flow = spec.components.securitySchemes.login.flows.authorizationCode;
  flow.tokenUrl = new URL('/auth/token', location.href).href;
  flow.refreshUrl = flow.tokenUrl;
  if (provider) flow.authorizationUrl = provider.authorizationEndpoint;
  const page = SwaggerUIBundle({
    spec,
    dom_id: '#page',
    deepLinking: true,
    docExpansion: 'list',
    defaultModelsExpandDepth: 0,
    validatorUrl: null,
    oauth2RedirectUrl: new URL('/docs/oauth2-redirect.html', location.href).href,
    requestInterceptor: (request) => {
      const isForm = typeof request.body === 'string' && !request.body.startsWith('{');
      if (request.url === flow.tokenUrl && isForm) {
        request.body = JSON.stringify(Object.fromEntries(new URLSearchParams(request.body)));
        request.headers['Content-Type'] = 'application/json';
        delete request.headers.Authorization;
      }
      return request;
    },
  });
  if (provider) {
    page.initOAuth({
      clientId: provider.client_id,
      scopes: 'openid profile email',
      usePkceWithAuthorizationCodeGrant: true,
      additionalQueryStringParams: { nonce: random() },
    });
  }
};
start().catch((fault) => {
  const page = document.getElementById('page');
  page.textContent = 'The description could not be shown: ' + fault.message;
});
"""
