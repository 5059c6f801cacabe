export NGINX_CONF_VERSION=v3

sub_publish() {
  echo "not executed here"
}
