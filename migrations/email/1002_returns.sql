-- A message about a return is sent once a return: its template is followed by the return, `order_refunded:0198…`.
alter table notifications drop constraint notifications_template_check;
alter table notifications add constraint notifications_template_check check (
    template in ('order_confirmed', 'order_shipped', 'order_cancelled')
    or template ~ '^(order_return_requested|order_refunded|return_rejected):[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$'
);
