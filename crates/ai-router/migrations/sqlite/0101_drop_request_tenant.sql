-- Nothing asks for the requests of a tenant yet, and every request paid for being found that way. The index comes back
-- with the first query that needs it.
DROP INDEX ai_request_tenant;
