package config

import "strings"

// credential.entra is true or false, or a group that says more than true: {tenantId, clientId}. In the file
// that is one key with two forms; among values they are keys of their own.
const entraKey = "credential.entra"

func belowEntra(key string) bool { return strings.HasPrefix(key, entraKey+".") }

// rivalsInEntra reports whether a stronger source's form of credential.entra takes the place of a weaker
// one's other form.
func rivalsInEntra(stronger, weaker string) bool {
	return stronger == entraKey && belowEntra(weaker) || belowEntra(stronger) && weaker == entraKey
}

// impliedEntra makes the group say true.
func impliedEntra(values map[string]Value) {
	for _, key := range []string{entraKey + ".tenantId", entraKey + ".clientId"} {
		v, given := values[key]
		if is, said := values[entraKey]; given && (!said || is.Where == "default") {
			values[entraKey] = Value{true, v.Where}
		}
	}
}

// checkEntraIn looks at the form with a tenant.
func (c *Config) checkEntraIn(bad func(key, text, fix string)) {
	in := c.Credential.EntraIn
	_, tenantGiven := c.Values[entraKey+".tenantId"]
	_, clientGiven := c.Values[entraKey+".clientId"]
	if !tenantGiven && !clientGiven {
		return
	}
	if !c.Credential.Entra {
		bad(entraKey, "is off and names an application", "Keep one of the two: false, or {tenantId, clientId}.")
		return
	}
	const tenant = "Write the ID of the Microsoft Entra tenant that the organization is connected to (Organization " +
		"settings, Microsoft Entra). If it is the VM's own: credential.entra: true."
	const client = "Write the application (client) ID of the app registration that has a federated credential for the " +
		"VM's managed identity."
	switch {
	case in.TenantID == "":
		bad(entraKey+".tenantId", "is missing", tenant)
	case !guid.MatchString(in.TenantID):
		bad(entraKey+".tenantId", "not the ID of a tenant", tenant)
	}
	switch {
	case in.ClientID == "":
		bad(entraKey+".clientId", "is missing", client)
	case !guid.MatchString(in.ClientID):
		bad(entraKey+".clientId", "not the ID of an application", client)
	}
}
