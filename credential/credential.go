// Package credential tells values that look like credentials, by the rules of
// gitleaks (MIT licence), from others. Of gitleaks it takes the rules alone:
// the engine around them finds secrets in repositories and archives, and with
// all that it reads it would make the program a fifth larger.
package credential

import (
	"math"
	"net/url"
	"slices"
	"strings"
	"sync"

	"github.com/spf13/viper"
	"github.com/zricethezav/gitleaks/v8/config"
	"github.com/zricethezav/gitleaks/v8/regexp"
)

// Limits of what is looked at, in bytes: no credential is shorter, and none
// that is given as an argument is longer.
const (
	minValue = 8
	maxValue = 16 << 10
)

// Kind is what a value looks like, for people and without the value, such as
// "a URL with a password" or "github-pat, a rule of gitleaks"; "" for nothing
// in particular. The name of the variable that has it is a part of what rules
// go by.
func Kind(name, value string) string {
	if len(value) < minValue || len(value) > maxValue {
		return ""
	}
	if kind := inURL(value); kind != "" {
		return kind
	}
	all, err := rules()
	if err != nil {
		return ""
	}
	text := name + "=" + value
	lower := strings.ToLower(text)
	for _, r := range all.inOrder {
		if r.finds(text, lower, all.allowed) {
			return r.RuleID + ", a rule of gitleaks"
		}
	}
	return ""
}

// inURL finds user information in the URLs of a value. Of protocols other than
// HTTP's a user alone, as in ssh://git@host, is none.
func inURL(value string) string {
	for word := range strings.FieldsSeq(value) {
		u, err := url.Parse(word)
		if err != nil || u.User == nil || u.Host == "" {
			continue
		}
		if _, has := u.User.Password(); has {
			return "a URL with a password"
		}
		if u.Scheme == "https" || u.Scheme == "http" {
			return "a URL with a user"
		}
	}
	return ""
}

type rule struct{ config.Rule }

// ruleset are the rules, from the particular to the general.
type ruleset struct {
	inOrder []rule
	allowed []*config.Allowlist
}

// generic is the rule for what any service could have issued: it names least.
const generic = "generic-api-key"

// rules reads those that come with gitleaks, once: it takes some time.
var rules = sync.OnceValues(func() (ruleset, error) {
	v := viper.New()
	v.SetConfigType("toml")
	if err := v.ReadConfig(strings.NewReader(config.DefaultConfig)); err != nil {
		return ruleset{}, err
	}
	var read config.ViperConfig
	if err := v.Unmarshal(&read); err != nil {
		return ruleset{}, err
	}
	c, err := read.Translate()
	if err != nil {
		return ruleset{}, err
	}
	all := ruleset{allowed: c.Allowlists}
	for _, id := range c.OrderedRules {
		if r := c.Rules[id]; r.Regex != nil && r.Path == nil && id != generic {
			all.inOrder = append(all.inOrder, rule{r})
		}
	}
	if r, ok := c.Rules[generic]; ok {
		all.inOrder = append(all.inOrder, rule{r})
	}
	return all, nil
})

// finds applies a rule as gitleaks does (detect/detect.go, detectRule).
func (r rule) finds(text, lower string, allowed []*config.Allowlist) bool {
	known := len(r.Keywords) == 0
	for _, keyword := range r.Keywords {
		known = known || strings.Contains(lower, strings.ToLower(keyword))
	}
	if !known {
		return false
	}
	secret, ok := r.secret(r.Regex, text)
	if !ok || r.Entropy > 0 && entropy(secret) <= r.Entropy {
		return false
	}
	for _, list := range slices.Concat(allowed, r.Allowlists) {
		if stop, _ := list.ContainsStopWord(secret); stop || list.RegexAllowed(secret) {
			return false
		}
	}
	return true
}

// secret is the part of a match that is the credential.
func (r rule) secret(pattern *regexp.Regexp, text string) (string, bool) {
	groups := pattern.FindStringSubmatch(text)
	switch {
	case groups == nil:
		return "", false
	case r.SecretGroup > 0 && r.SecretGroup < len(groups):
		return groups[r.SecretGroup], true
	}
	for _, group := range groups[1:] {
		if group != "" {
			return group, true
		}
	}
	return groups[0], true
}

// entropy is Shannon's, in bits a character.
func entropy(text string) float64 {
	count := map[rune]float64{}
	total := 0.0
	for _, r := range text {
		count[r]++
		total++
	}
	bits := 0.0
	for _, n := range count {
		bits -= n / total * math.Log2(n/total)
	}
	return bits
}
